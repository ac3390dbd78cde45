import { serveUnix } from "#adapters/unix-http.ts";
import { decodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { fromUtf8 } from "#core/bytes/bytes.ts";
import { parseAppCompose } from "#core/compose/app-compose.ts";
import { AppError } from "#core/errors/app-error.ts";
import { log } from "../adapters/console.ts";
import { files } from "../adapters/files.ts";
import { dstackSocketApp, tappdSocketApp } from "../agent/agent-app.ts";
import { type Agent, createAgent } from "../agent/agent.ts";
import { parseAppKeys } from "../boot/app-keys.ts";
import { parseSysConfig } from "../boot/sys-config.ts";
import { createRecordedTee } from "../tee/recorded.ts";
import { GUEST_VERSION } from "../version.ts";
import { issuerOf } from "./issuer.ts";

/**
 * `dstack-guest simulate --dir DIR --dstack-socket PATH --tappd-socket PATH`: an agent over the folder
 * format of the reference's simulator, for developing against the SDKs without a VM.
 */
export async function simulateCommand(options: ReadonlyMap<string, string>): Promise<number> {
  const dir = options.get("dir") ?? ".";
  const agent = await simulatedAgent(dir);
  const [dstack, tappd] = [dstackSocketApp(agent), tappdSocketApp(agent)];
  // SDKs want Info to hold a certificate: it is there before the first request is.
  agent.demoCertificate();
  await Promise.all([
    serveUnix((request) => dstack.fetch(request), {
      socket: { path: options.get("dstack-socket") ?? `${dir}/dstack.sock`, mode: 0o777 },
    }),
    serveUnix((request) => tappd.fetch(request), {
      socket: { path: options.get("tappd-socket") ?? `${dir}/tappd.sock`, mode: 0o777 },
    }),
  ]);
  log("simulator is up", { dir });
  return await new Promise<number>(() => {});
}

/** The agent of a simulator folder: keys, compose and configuration of the app, one attestation. */
export async function simulatedAgent(dir: string): Promise<Agent> {
  const read = async (name: string) => {
    const bytes = await files.read(`${dir}/${name}`);
    if (bytes === undefined) throw new AppError("resource/not-found", `${dir} has no ${name}`);
    return bytes;
  };
  const composeBytes = await read("app-compose.json");
  const { vmConfig } = parseSysConfig(await read("sys-config.json"));
  const recorded = decodeAttestation(await read("attestation.bin"));
  const keys = parseAppKeys(await read("appkeys.json"));
  const tee = createRecordedTee(recorded);
  const noKms = () => Promise.reject(new AppError("input/unsupported", "A simulator has no KMS"));
  return createAgent({
    tee,
    keys,
    compose: parseAppCompose(composeBytes),
    composeText: fromUtf8(composeBytes, "app-compose.json"),
    vmConfig,
    attestedConfig: recorded.stack.config,
    simulator: true,
    issueCertificate: issuerOf(keys, tee, recorded.stack.config, {
      makeTlsFetch: () => noKms,
      verifyKmsEvidence: noKms,
    }),
    gpuAttestation: () => Promise.resolve(""),
    version: GUEST_VERSION,
    cloud: { vendor: "", product: "" },
    log,
  });
}
