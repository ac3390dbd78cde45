import { equalBytes, fromUtf8, toHex, utf8 } from "#core/bytes/bytes.ts";
import type { RootKeys } from "#core/crypto/app-keys.ts";
import { isK256Scalar, randomK256Scalar } from "#core/crypto/k256.ts";
import { encodeP256Pkcs8, p256Spki, parseP256Pkcs8, randomP256Scalar } from "#core/crypto/p256.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { decodeOnePem } from "#core/encoding/pem.ts";
import { AppError } from "#core/errors/app-error.ts";
import {
  type Certificate,
  certificatePem,
  parseCertificate,
  parseCertificatePem,
  privateKeyPem,
} from "#core/ra-tls/certificate.ts";
import { buildRootCa, buildRpcCertificate, buildTempCa } from "./certificates.ts";
import { encodeEpochs, EPOCHS_FILE, type RootEpoch } from "./epochs.ts";
import { parseDomain } from "./domain.ts";

/** Files of `core.cert_dir` (kms.md 3.1), by name. Writes are atomic and durable. */
export interface KeyFiles {
  /** Undefined when there is no such file. */
  readonly read: (name: string) => Promise<Uint8Array | undefined>;
  readonly write: (name: string, content: Uint8Array, mode: number) => Promise<void>;
  readonly remove: (name: string) => Promise<void>;
}

const FILE = {
  tempCaKey: "tmp-ca.key",
  tempCaCert: "tmp-ca.crt",
  rootCaKey: "root-ca.key",
  rootCaCert: "root-ca.crt",
  rpcKey: "rpc.key",
  rpcCert: "rpc.crt",
  k256Key: "root-k256.key",
  domain: "rpc-domain",
  bootstrapInfo: "bootstrap-info.json",
  /** All new keys in one file, until they stand in files of their own. */
  pending: "bootstrap-pending.json",
} as const;

/** What cannot be made anew; certificates can. */
const KEYS = [FILE.tempCaKey, FILE.rootCaKey, FILE.rpcKey, FILE.k256Key];
const CERTIFICATES = [FILE.tempCaCert, FILE.rootCaCert, FILE.rpcCert];

const SECRET_MODE = 0o600;
const PUBLIC_MODE = 0o644;
const RENEWAL_MS = 365 * 86_400_000;

/** All keys of a KMS, 32-byte scalars. */
export interface KmsKeySet extends RootKeys {
  readonly tempCaKey: Uint8Array;
  readonly rpcKey: Uint8Array;
}

/** What a running KMS holds. */
export interface KmsIdentity extends KmsKeySet {
  readonly domain: string;
  readonly rootCa: Certificate;
  readonly rootCaPem: string;
  readonly tempCaPem: string;
  readonly rpcCertPem: string;
}

/** What the first KMS published about its keys. */
export interface BootstrapInfo {
  readonly caPublicKey: Uint8Array;
  readonly k256PublicKey: Uint8Array;
  /** Versioned attestation over both. */
  readonly attestation: Uint8Array;
}

export function generateKeySet(): KmsKeySet {
  return {
    caKey: randomP256Scalar(),
    tempCaKey: randomP256Scalar(),
    rpcKey: randomP256Scalar(),
    k256Key: randomK256Scalar(),
  };
}

/** Overwrites keys that stand in their files, or that nobody needs any more. */
export function wipe(keys: KmsKeySet): void {
  for (const key of [keys.caKey, keys.k256Key, keys.tempCaKey, keys.rpcKey]) key.fill(0);
}

/** Whether there are keys to serve. Throws `config/invalid` when only some of them are there. */
export async function hasKeys(files: KeyFiles): Promise<boolean> {
  const found = await present(files, KEYS);
  if (found.length === 0 || found.length === KEYS.length) return found.length > 0;
  const missing = KEYS.filter((name) => !found.includes(name));
  throw new AppError(
    "config/invalid",
    `The key directory has ${found.join(", ")} but lacks ${missing.join(", ")}: restore them, ` +
      "or clear the directory to start over with new root keys",
  );
}

/** Throws `resource/conflict` with `message` when any file of a KMS is already there. */
export async function requireNoKeys(files: KeyFiles, message: string): Promise<void> {
  const names = [...KEYS, ...CERTIFICATES, FILE.bootstrapInfo, FILE.pending, EPOCHS_FILE];
  const found = await present(files, names);
  if (found.length > 0) {
    throw new AppError("resource/conflict", message, { fields: { files: found } });
  }
}

/** New keys on their way into their files. */
export interface NewKeys {
  readonly keys: KmsKeySet;
  readonly domain: string;
  readonly bootstrapInfo?: BootstrapInfo | undefined;
  /** Epochs of the root keys after the first. */
  readonly epochs?: readonly RootEpoch[] | undefined;
}

/**
 * Stores new keys: first all of them in one file, then each in its own, so that a crash at any point
 * leaves either nothing or what `completePending` finishes.
 */
export async function storeNewKeys(files: KeyFiles, made: NewKeys): Promise<void> {
  const { keys, domain, bootstrapInfo, epochs = [] } = made;
  const pending = JSON.stringify({
    ca_key: toHex(keys.caKey),
    k256_key: toHex(keys.k256Key),
    temp_ca_key: toHex(keys.tempCaKey),
    rpc_key: toHex(keys.rpcKey),
    domain,
    bootstrap_info: bootstrapInfo === undefined ? null : encodeBootstrapInfo(bootstrapInfo),
    root_epochs: epochs.length === 0 ? null : JSON.parse(fromUtf8(encodeEpochs(epochs))),
  });
  await files.write(FILE.pending, utf8(pending), SECRET_MODE);
  await completePending(files);
}

/** Finishes a `storeNewKeys` that was interrupted; does nothing otherwise. */
export async function completePending(files: KeyFiles): Promise<void> {
  const raw = await files.read(FILE.pending);
  if (raw === undefined) return;
  const pending = new JsonObject(JSON.parse(fromUtf8(raw)), FILE.pending);
  await files.write(FILE.domain, utf8(`${pending.string("domain")}\n`), PUBLIC_MODE);
  await writeKey(files, FILE.tempCaKey, pending.hex("temp_ca_key", 32));
  await writeKey(files, FILE.rpcKey, pending.hex("rpc_key", 32));
  await writeKey(files, FILE.rootCaKey, pending.hex("ca_key", 32));
  await files.write(FILE.k256Key, pending.hex("k256_key", 32), SECRET_MODE);
  const info = pending.raw("bootstrap_info");
  if (info !== null) {
    await files.write(FILE.bootstrapInfo, utf8(JSON.stringify(info)), PUBLIC_MODE);
  }
  const epochs = pending.raw("root_epochs") ?? null;
  if (epochs !== null) {
    await files.write(EPOCHS_FILE, utf8(JSON.stringify(epochs)), SECRET_MODE);
  }
  await files.remove(FILE.pending);
}

/** `bootstrap-info.json`, hex. */
function encodeBootstrapInfo(info: BootstrapInfo): Record<string, string> {
  return {
    ca_pubkey: toHex(info.caPublicKey),
    k256_pubkey: toHex(info.k256PublicKey),
    attestation: toHex(info.attestation),
  };
}

/** Undefined when there is none or it does not parse: it is shown, never relied on. */
export async function readBootstrapInfo(files: KeyFiles): Promise<BootstrapInfo | undefined> {
  const raw = await files.read(FILE.bootstrapInfo);
  if (raw === undefined) return undefined;
  try {
    const info = new JsonObject(JSON.parse(fromUtf8(raw)), FILE.bootstrapInfo);
    return {
      caPublicKey: info.hex("ca_pubkey", undefined),
      k256PublicKey: info.hex("k256_pubkey", undefined),
      attestation: info.hex("attestation", undefined),
    };
  } catch {
    return undefined; // the reference answers without it too
  }
}

/** The root alone, for who signs with it and serves nothing. */
export async function loadRootCa(
  files: KeyFiles,
  now: Date,
): Promise<{ caKey: Uint8Array; rootCa: Certificate; rootCaPem: string }> {
  const caKey = await readKey(files, FILE.rootCaKey);
  const rootCa = await renewed(files, FILE.rootCaCert, caKey, now, buildRootCa);
  return { caKey, rootCa, rootCaPem: certificatePem(rootCa.der) };
}

/**
 * Loads the keys, renews CA certificates that expire within a year or are missing, and always makes a
 * new server certificate for `domain` (default: the stored one). `attest` gives the versioned attestation of a server key's SPKI.
 */
export async function loadIdentity(
  files: KeyFiles,
  now: Date,
  options: {
    readonly domain?: string | undefined;
    readonly attest?: ((spki: Uint8Array) => Promise<Uint8Array>) | undefined;
  } = {},
): Promise<KmsIdentity> {
  const root = await loadRootCa(files, now);
  const keys = {
    tempCaKey: await readKey(files, FILE.tempCaKey),
    rpcKey: await readKey(files, FILE.rpcKey),
    k256Key: await readRequired(files, FILE.k256Key),
  };
  if (!isK256Scalar(keys.k256Key)) {
    throw new AppError("config/invalid", `${FILE.k256Key} is not a secp256k1 key of 32 bytes`);
  }
  const domain = parseDomain(options.domain ?? (await readText(files, FILE.domain)).trim());
  const tempCa = await renewed(files, FILE.tempCaCert, keys.tempCaKey, now, buildTempCa);
  const attestation = await options.attest?.(p256Spki(keys.rpcKey));
  const rpcCert = buildRpcCertificate(keys.rpcKey, domain, root.caKey, now, attestation);
  await writeCertificate(files, FILE.rpcCert, rpcCert);
  return {
    ...root,
    ...keys,
    domain,
    tempCaPem: certificatePem(tempCa.der),
    rpcCertPem: certificatePem(rpcCert),
  };
}

async function renewed(
  files: KeyFiles,
  name: string,
  key: Uint8Array,
  now: Date,
  build: (key: Uint8Array, now: Date) => Uint8Array,
): Promise<Certificate> {
  const pem = await files.read(name);
  const stored = pem === undefined ? undefined : parseCertificatePem(fromUtf8(pem, name));
  if (stored !== undefined && !equalBytes(stored.publicKey, p256Spki(key))) {
    throw new AppError("config/invalid", `${name}: CA certificate does not match private key`);
  }
  if (stored !== undefined && stored.notAfter.getTime() - now.getTime() > RENEWAL_MS) return stored;
  const der = build(key, now);
  await writeCertificate(files, name, der);
  return parseCertificate(der);
}

async function present(files: KeyFiles, names: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of names) if (await files.read(name) !== undefined) found.push(name);
  return found;
}

async function readRequired(files: KeyFiles, name: string): Promise<Uint8Array> {
  const content = await files.read(name);
  if (content === undefined) throw new AppError("config/invalid", `${name} is missing`);
  return content;
}

async function readText(files: KeyFiles, name: string): Promise<string> {
  return fromUtf8(await readRequired(files, name), name);
}

async function readKey(files: KeyFiles, name: string): Promise<Uint8Array> {
  return parseP256Pkcs8(decodeOnePem("PRIVATE KEY", await readText(files, name)));
}

async function writeKey(files: KeyFiles, name: string, key: Uint8Array): Promise<void> {
  const pem = privateKeyPem(encodeP256Pkcs8(key));
  await files.write(name, utf8(pem), SECRET_MODE);
}

async function writeCertificate(files: KeyFiles, name: string, der: Uint8Array): Promise<void> {
  await files.write(name, utf8(certificatePem(der)), PUBLIC_MODE);
}
