import { ByteReader } from "../bytes/byte-reader.ts";
import { isZero } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/** Bytes of an attestation report (AMD SEV-SNP firmware ABI 56860, table 23). */
export const SNP_REPORT_BYTES = 1184;
/** What the signature covers: everything before it. */
const SIGNED_BYTES = 0x2a0;

/** Report versions whose layout is the one read here; each new one named more of the reserved bytes. */
const VERSIONS = [2, 3, 4, 5] as const;
const ECDSA_P384_SHA384 = 1;
/** r and s, little-endian, have 72 bytes each; P-384 uses 48. */
const SCALAR_BYTES = 72;
const P384_BYTES = 48;

/** Which key signed the report (KEY_INFO.SIGNING_KEY). */
export type SnpSigningKey = "vcek" | "vlek";

/** GUEST_POLICY (ABI table 10). */
export interface SnpGuestPolicy {
  readonly abiMajor: number;
  readonly abiMinor: number;
  readonly smtAllowed: boolean;
  readonly migrationAgentAllowed: boolean;
  readonly debugAllowed: boolean;
  readonly singleSocketRequired: boolean;
  readonly cxlAllowed: boolean;
  readonly aes256XtsRequired: boolean;
  readonly raplMustBeOff: boolean;
  readonly ciphertextHidingRequired: boolean;
  readonly pageSwapMustBeOff: boolean;
  /** Bit 17 must be one, and those above 25 zero. */
  readonly reservedBitsHold: boolean;
}

/** PLATFORM_INFO (ABI table 24). */
export interface SnpPlatformInfo {
  readonly smtEnabled: boolean;
  readonly tsmeEnabled: boolean;
  readonly eccEnabled: boolean;
  readonly raplOff: boolean;
  readonly ciphertextHiding: boolean;
  readonly aliasCheckComplete: boolean;
}

/** Family, model and stepping of the processor, as CPUID composes them; from report version 3 on. */
export interface SnpCpu {
  readonly family: number;
  readonly model: number;
  readonly stepping: number;
}

export interface SnpReport {
  readonly version: number;
  readonly guestSvn: number;
  readonly policy: SnpGuestPolicy;
  readonly policyBits: bigint;
  readonly familyId: Uint8Array;
  readonly imageId: Uint8Array;
  /** Virtual machine privilege level of who asked, 0 to 3; 0 is the most privileged. */
  readonly vmpl: number;
  /** TCB_VERSION, 8 bytes as they stand: their meaning differs between products. */
  readonly currentTcb: Uint8Array;
  readonly platform: SnpPlatformInfo;
  readonly platformBits: bigint;
  readonly authorKeyEnabled: boolean;
  /** The chip's key is masked: nothing signed the report. */
  readonly chipKeyMasked: boolean;
  readonly signingKey: SnpSigningKey | "none";
  readonly reportData: Uint8Array;
  /** The launch digest, SHA-384. */
  readonly measurement: Uint8Array;
  /** 32 bytes the host bound at launch. */
  readonly hostData: Uint8Array;
  readonly idKeyDigest: Uint8Array;
  readonly authorKeyDigest: Uint8Array;
  readonly reportId: Uint8Array;
  readonly reportIdMigrationAgent: Uint8Array;
  readonly reportedTcb: Uint8Array;
  /** Undefined in version 2. */
  readonly cpu: SnpCpu | undefined;
  /** 64 bytes, zeros where the host masks it. Turin uses the first 8. */
  readonly chipId: Uint8Array;
  readonly committedTcb: Uint8Array;
  readonly currentFirmware: string;
  readonly committedFirmware: string;
  readonly launchTcb: Uint8Array;
  /** ECDSA P-384 over `signedBytes`, raw r || s, big-endian. */
  readonly signature: Uint8Array;
  readonly signedBytes: Uint8Array;
}

/**
 * Parses an SEV-SNP attestation report, every field by name. What follows the signature's numbers is not
 * signed and must be zero. Throws `input/malformed` or `input/unsupported`.
 */
export function parseSnpReport(bytes: Uint8Array): SnpReport {
  const r = new ByteReader(bytes, "SEV-SNP report");
  if (bytes.length !== SNP_REPORT_BYTES) {
    throw r.malformed("report", `has ${bytes.length} bytes, expected ${SNP_REPORT_BYTES}`);
  }
  const version = r.u32le("VERSION");
  if (!(VERSIONS as readonly number[]).includes(version)) {
    throw unsupported(`version ${version}, expected ${VERSIONS.join(", ")}`);
  }
  const guestSvn = r.u32le("GUEST_SVN");
  const policyBits = r.u64le("POLICY");
  const familyId = r.bytes("FAMILY_ID", 16);
  const imageId = r.bytes("IMAGE_ID", 16);
  const vmpl = r.u32le("VMPL");
  const algorithm = r.u32le("SIGNATURE_ALGO");
  if (algorithm !== ECDSA_P384_SHA384) throw unsupported(`signature algorithm ${algorithm}`);
  const currentTcb = r.bytes("CURRENT_TCB", 8);
  const platformBits = r.u64le("PLATFORM_INFO");
  const key = r.u32le("KEY_INFO");
  r.bytes("reserved", 4);
  const report = {
    version,
    guestSvn,
    policy: readPolicy(policyBits),
    policyBits,
    familyId,
    imageId,
    vmpl,
    currentTcb,
    platform: readPlatform(platformBits),
    platformBits,
    authorKeyEnabled: (key & 1) !== 0,
    chipKeyMasked: (key & 2) !== 0,
    signingKey: readSigningKey(key >> 2 & 7),
    reportData: r.bytes("REPORT_DATA", 64),
    measurement: r.bytes("MEASUREMENT", 48),
    hostData: r.bytes("HOST_DATA", 32),
    idKeyDigest: r.bytes("ID_KEY_DIGEST", 48),
    authorKeyDigest: r.bytes("AUTHOR_KEY_DIGEST", 48),
    reportId: r.bytes("REPORT_ID", 32),
    reportIdMigrationAgent: r.bytes("REPORT_ID_MA", 32),
    reportedTcb: r.bytes("REPORTED_TCB", 8),
    cpu: readCpu(r, version),
    chipId: r.bytes("CHIP_ID", 64),
    committedTcb: r.bytes("COMMITTED_TCB", 8),
    currentFirmware: readFirmware(r, "CURRENT"),
    committedFirmware: readFirmware(r, "COMMITTED"),
    launchTcb: r.bytes("LAUNCH_TCB", 8),
  };
  r.bytes("mitigations and reserved", SIGNED_BYTES - r.offset);
  const signedBytes = bytes.slice(0, r.offset);
  const signature = new Uint8Array(2 * P384_BYTES);
  signature.set(readScalar(r, "R"));
  signature.set(readScalar(r, "S"), P384_BYTES);
  if (!isZero(r.rest())) throw r.malformed("reserved", "after the signature is not zero");
  return { ...report, signature, signedBytes };
}

function readPolicy(bits: bigint): SnpGuestPolicy {
  const bit = (n: bigint) => (bits >> n & 1n) === 1n;
  return {
    abiMajor: Number(bits >> 8n & 0xffn),
    abiMinor: Number(bits & 0xffn),
    smtAllowed: bit(16n),
    migrationAgentAllowed: bit(18n),
    debugAllowed: bit(19n),
    singleSocketRequired: bit(20n),
    cxlAllowed: bit(21n),
    aes256XtsRequired: bit(22n),
    raplMustBeOff: bit(23n),
    ciphertextHidingRequired: bit(24n),
    pageSwapMustBeOff: bit(25n),
    reservedBitsHold: bit(17n) && bits >> 26n === 0n,
  };
}

function readPlatform(bits: bigint): SnpPlatformInfo {
  const bit = (n: bigint) => (bits >> n & 1n) === 1n;
  return {
    smtEnabled: bit(0n),
    tsmeEnabled: bit(1n),
    eccEnabled: bit(2n),
    raplOff: bit(3n),
    ciphertextHiding: bit(4n),
    aliasCheckComplete: bit(5n),
  };
}

function readSigningKey(value: number): SnpReport["signingKey"] {
  if (value === 0) return "vcek";
  if (value === 1) return "vlek";
  if (value === 7) return "none";
  throw unsupported(`signing key ${value}`);
}

/** 24 bytes, reserved in version 2. */
function readCpu(r: ByteReader, version: number): SnpCpu | undefined {
  const cpu = {
    family: r.u8("CPUID_FAM_ID"),
    model: r.u8("CPUID_MOD_ID"),
    stepping: r.u8("CPUID_STEP"),
  };
  r.bytes("reserved", 21);
  return version >= 3 ? cpu : undefined;
}

function readFirmware(r: ByteReader, which: string): string {
  const build = r.u8(`${which}_BUILD`);
  const minor = r.u8(`${which}_MINOR`);
  const major = r.u8(`${which}_MAJOR`);
  r.u8("reserved");
  return `${major}.${minor}.${build}`;
}

function readScalar(r: ByteReader, field: string): Uint8Array {
  const scalar = r.bytes(field, SCALAR_BYTES);
  if (!isZero(scalar.subarray(P384_BYTES))) throw r.malformed(field, "is longer than P-384 has it");
  return scalar.slice(0, P384_BYTES).reverse();
}

function unsupported(what: string): AppError {
  return new AppError("input/unsupported", `Cannot parse SEV-SNP report: unsupported ${what}`);
}
