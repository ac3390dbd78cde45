import { refusal, refusing } from "../errors/refusal.ts";
import type { RuntimeEvent } from "../event-log/runtime-event.ts";
import {
  GPU_ATTESTATION_EVENT,
  type GpuAttestation,
  parseGpuAttestation,
} from "../nvidia/gpu-attestation.ts";
import { BOOT_MR_DONE, launchEventsOf } from "./launch-events.ts";

/**
 * What the guest measured about its GPUs; undefined when it measured nothing. At most one event, before
 * `boot-mr-done`. `expectedDevices`: how many GPUs the VM's configuration names, where it does. The guest
 * is the verifier of its GPUs: what stands behind this is the OS image. Throws `attestation/refused`.
 */
export function checkGpus(
  events: readonly RuntimeEvent[],
  expectedDevices: number | undefined,
  allowDevtools: boolean,
): GpuAttestation | undefined {
  const launch = launchEventsOf(events);
  const found = launch.flatMap(({ event }, at) => event === GPU_ATTESTATION_EVENT ? [at] : []);
  const [at] = found;
  if (at === undefined) return undefined;
  if (found.length > 1) {
    throw refusal("gpu-attestation-malformed", `The log has ${found.length} GPU attestations`);
  }
  if (at > launch.findIndex(({ event }) => event === BOOT_MR_DONE)) {
    throw refusal("gpu-attestation-malformed", `The GPUs were attested after ${BOOT_MR_DONE}`);
  }
  const gpus = refusing(
    "gpu-attestation-malformed",
    () => parseGpuAttestation(launch[at]!.payload),
  );
  if (expectedDevices !== undefined && gpus.devices !== expectedDevices) {
    throw refusal(
      "gpu-attestation-mismatch",
      `The guest attested ${gpus.devices} GPUs, the VM has ${expectedDevices}`,
    );
  }
  if (gpus.ccMode !== "on") {
    throw refusal("gpu-mode-not-allowed", "The GPUs are not in confidential computing mode");
  }
  if (gpus.devtools && !allowDevtools) {
    throw refusal("gpu-mode-not-allowed", "Developer tools can read the memory of the GPUs");
  }
  return gpus;
}
