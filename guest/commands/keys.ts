import { writeFileAtomic } from "#adapters/files.ts";
import { equalBytes, fromHex, fromUtf8, toHex } from "#core/bytes/bytes.ts";
import { appInfoOf } from "#core/attestation/app-info.ts";
import { ID_LENGTH } from "#core/compose/identity.ts";
import { AppError } from "#core/errors/app-error.ts";
import { parseCertificatePem } from "#core/ra-tls/certificate.ts";
import { readKernelParameters } from "../adapters/kernel-cmdline.ts";
import { kmsTrust } from "../adapters/kms-trust.ts";
import { writeStandardOutput } from "../adapters/standard-streams.ts";
import { sleep } from "../adapters/timers.ts";
import { encodeAppKeys } from "../boot/app-keys.ts";
import { requestAppKeys } from "../boot/kms-client.ts";
import { seededAppKeys } from "../boot/local-keys.ts";
import { attest, attestPublicKey } from "../tee/attest.ts";
import { type AttestedCertificate, caCertificate, raCertificate } from "../tee/certificates.ts";
import { readSysConfig } from "./guest-context.ts";
import { guestTee, type Options, readInput, required } from "./tools.ts";

/** `gen-ra-cert --ca-cert FILE --ca-key FILE -c CERT -k KEY`: an RA-TLS leaf below that CA. */
export async function genRaCertCommand(options: Options): Promise<number> {
  const read = async (name: string) => fromUtf8(await readInput(required(options, name)), name);
  const ca = { certPem: await read("ca-cert"), keyPem: await read("ca-key") };
  return await writePair(options, await raCertificate(ca, await attester()));
}

/** `gen-ca-cert --cert FILE --key FILE [--ca-level 1]`: a CA with evidence of this guest. */
export async function genCaCertCommand(options: Options): Promise<number> {
  return await writePair(options, await caCertificate(caLevel(options), await attester()));
}

/** `gen-app-keys [--ca-level 1] -o FILE`: random keys, as an app without a key provider has them. */
export async function genAppKeysCommand(options: Options): Promise<number> {
  const output = required(options, "output");
  const { tee, vmConfig, now } = await attester();
  const keys = await seededAppKeys(crypto.getRandomValues(new Uint8Array(32)), {
    attestPublicKey: (spki) => attestPublicKey(tee, spki, vmConfig),
    now,
  }, caLevel(options));
  await writeFileAtomic(output, encodeAppKeys(keys), 0o600);
  return 0;
}

/**
 * `get-keys -k URL [--app-id HEX] [-o FILE] [--root-ca FILE]`: what the KMS gives this guest. Without
 * the root nothing says who the KMS is: for finding faults, not for use.
 */
export async function getKeysCommand(options: Options): Promise<number> {
  const { tee, vmConfig, now } = await attester();
  const wanted = options.get("app-id");
  if (wanted !== undefined) {
    const { appId } = appInfoOf(await attest(tee, new Uint8Array(64), vmConfig));
    if (!equalBytes(appId, fromHex(wanted, "--app-id", ID_LENGTH))) {
      throw new AppError("input/malformed", `This guest was measured as app ${toHex(appId)}`);
    }
  }
  const rootFile = options.get("root-ca");
  const root = rootFile === undefined
    ? undefined
    : parseCertificatePem(fromUtf8(await readInput(rootFile), "--root-ca"));
  const trust = kmsTrust(await readKernelParameters(), await readSysConfig());
  const { keys } = await requestAppKeys({ urls: [required(options, "kms-url")], vmConfig }, {
    ...trust,
    ...(root === undefined && { verifyKmsEvidence: () => Promise.resolve() }),
    attestPublicKey: (spki) => attestPublicKey(tee, spki, vmConfig),
    now,
    sleep,
  }, {
    unavailable(error) {
      throw error;
    },
    recovered() {},
  });
  if (root !== undefined && keys.provider.kind === "kms") {
    if (!equalBytes(keys.provider.publicKey, root.publicKey)) {
      throw new AppError("guest/kms-untrusted", "The KMS is not under --root-ca");
    }
  }
  const output = options.get("output");
  if (output === undefined) await writeStandardOutput(encodeAppKeys(keys) + "\n");
  else await writeFileAtomic(output, encodeAppKeys(keys), 0o600);
  return 0;
}

async function attester() {
  const sysConfig = await readSysConfig();
  return { tee: await guestTee(sysConfig), vmConfig: sysConfig.vmConfig, now: () => new Date() };
}

async function writePair(options: Options, made: AttestedCertificate): Promise<number> {
  const [cert, key] = [required(options, "cert"), required(options, "key")];
  await writeFileAtomic(key, made.keyPem, 0o600);
  await writeFileAtomic(cert, made.certPem, 0o644);
  return 0;
}

function caLevel(options: Options): number {
  const level = Number(options.get("ca-level") ?? 1);
  if (!Number.isInteger(level) || level < 0 || level > 255) {
    throw new AppError("config/invalid", "--ca-level needs a number from 0 to 255");
  }
  return level;
}
