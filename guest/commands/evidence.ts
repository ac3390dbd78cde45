import { writeFileAtomic } from "#adapters/files.ts";
import { appInfoOf } from "#core/attestation/app-info.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { paddedReportData } from "#core/attestation/report-data.ts";
import {
  decodeAttestation,
  encodeAttestation,
  MAX_ATTESTATION_BYTES,
  stripAttestation,
} from "#core/attestation/versioned-attestation.ts";
import { equalBytes, fromHex, toHex } from "#core/bytes/bytes.ts";
import { ID_LENGTH } from "#core/compose/identity.ts";
import { AppError } from "#core/errors/app-error.ts";
import { log } from "../adapters/console.ts";
import { writeStandardOutput } from "../adapters/standard-streams.ts";
import { parseSysConfig } from "../boot/sys-config.ts";
import { attest } from "../tee/attest.ts";
import { attestationJson, describeReplay, describeSizes } from "../tee/describe.ts";
import { guestTee, type Options, readInput, required } from "./tools.ts";
import { WORK_DIR } from "./guest-context.ts";

const ATTESTATION_FILE = "attestation.bin";
const SYS_CONFIG = `${WORK_DIR}/.host-shared/.sys-config.json`;

/** `replay-imr`: what the event log says the registers are. */
export async function replayImrCommand(): Promise<number> {
  await writeStandardOutput(describeReplay(await (await guestTee()).eventLog()));
  return 0;
}

/** `quote-report --report-data HEX [--sys-config FILE] [-o FILE]`: `{"attestation": hex}`. */
export async function quoteReportCommand(options: Options): Promise<number> {
  const attestation = await takeAttestation(options, options.get("sys-config") ?? SYS_CONFIG);
  if (options.has("debug")) log("attestation", { sizes: describeSizes(attestation) });
  const json = { attestation: toHex(encodeAttestation(attestation)) };
  await writeOut(options.get("output"), JSON.stringify(json, null, 2) + "\n");
  return 0;
}

/** `attest --report-data HEX [--app-id HEX] [-o attestation.bin] [--hex]`. */
export async function attestCommand(options: Options): Promise<number> {
  const attestation = await takeAttestation(options, SYS_CONFIG);
  const wanted = options.get("app-id");
  if (wanted !== undefined) {
    const { appId } = appInfoOf(attestation);
    if (!equalBytes(appId, fromHex(wanted, "--app-id", ID_LENGTH))) {
      throw new AppError("input/malformed", `This guest was measured as app ${toHex(appId)}`);
    }
  }
  const bytes = encodeAttestation(attestation);
  const data = options.has("hex") ? toHex(bytes) : bytes;
  await writeOut(options.get("output") ?? ATTESTATION_FILE, data);
  return 0;
}

/** `attest-info [-i attestation.bin]`. */
export async function attestInfoCommand(options: Options): Promise<number> {
  await writeStandardOutput(describeSizes(await readAttestation(options)));
  return 0;
}

/** `attest-json [-i attestation.bin] [-o FILE]`. */
export async function attestJsonCommand(options: Options): Promise<number> {
  await writeOut(options.get("output"), attestationJson(await readAttestation(options)));
  return 0;
}

/** `attest-strip [-i attestation.bin] [-o attestation.strip.bin]`: as certificates carry it. */
export async function attestStripCommand(options: Options): Promise<number> {
  const stripped = stripAttestation(await readAttestation(options));
  await writeOut(options.get("output") ?? "attestation.strip.bin", encodeAttestation(stripped));
  return 0;
}

async function takeAttestation(options: Options, sysConfigFile: string): Promise<Attestation> {
  const reportData = paddedReportData(fromHex(required(options, "report-data"), "--report-data"));
  const sysConfig = parseSysConfig(await readInput(sysConfigFile));
  return await attest(await guestTee(sysConfig), reportData, sysConfig.vmConfig);
}

/** Binary, or the hex that `attest --hex` writes. */
async function readAttestation(options: Options): Promise<Attestation> {
  const bytes = await readInput(
    options.get("input") ?? ATTESTATION_FILE,
    3 * MAX_ATTESTATION_BYTES,
  );
  const text = bytes[0] === 0x00 || bytes[0]! >= 0x80
    ? undefined
    : new TextDecoder().decode(bytes).trim();
  return decodeAttestation(text === undefined ? bytes : fromHex(text, "attestation"));
}

async function writeOut(path: string | undefined, data: string | Uint8Array): Promise<void> {
  if (path === undefined) await writeStandardOutput(data);
  else await writeFileAtomic(path, data, 0o644);
}
