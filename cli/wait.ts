import { AppError } from "#core/errors/app-error.ts";
import { type CliPorts, dataOf, type DstackdClient } from "./context.ts";
import type { Cvm } from "./cvm-lookup.ts";

const POLL_MS = 500;

/**
 * Waits until the CVM's guest says its boot is done, showing each phase. Throws with the guest's own
 * reason when the boot failed for good, `upstream/unavailable` when it took longer than `timeoutMs`.
 */
export async function waitUntilServing(
  client: DstackdClient,
  id: string,
  timeoutMs: number,
  ports: CliPorts,
  quiet: boolean,
): Promise<Cvm> {
  const deadlineMs = ports.now().getTime() + timeoutMs;
  let shown = 0;
  let failure = "";
  for (;;) {
    const cvm = dataOf(await client.GET("/v1/cvms/{id}", { params: { path: { id } } }));
    for (; !quiet && shown < cvm.phases.length; shown++) ports.say(`  ${cvm.phases[shown]!.name}`);
    if (cvm.bootProgress === "done" && cvm.status === "running") return cvm;
    if (cvm.bootError !== failure) {
      failure = cvm.bootError;
      if (failure !== "" && !quiet) ports.say(`  ${failure}`);
    }
    if (isFinal(failure)) {
      throw new AppError("upstream/unavailable", `${failure}; see 'dstack logs ${id}'`);
    }
    if (cvm.status === "exited" || cvm.status === "stopped") {
      throw new AppError(
        "upstream/unavailable",
        `The CVM stopped while booting${failure ? `: ${failure}` : ""}; see 'dstack logs ${id}'`,
      );
    }
    if (ports.now().getTime() > deadlineMs) {
      throw new AppError(
        "upstream/unavailable",
        `The app did not come up in ${timeoutMs / 1000} s, at '${cvm.bootProgress}'` +
          `${failure ? `: ${failure}` : ""}; see 'dstack logs ${id}'`,
      );
    }
    await ports.sleep(POLL_MS);
  }
}

/** The app itself cannot start; everything else the guest tries again, or goes on without. */
function isFinal(bootError: string): boolean {
  return bootError.startsWith("guest/app-failed") && !bootError.includes("trying again");
}
