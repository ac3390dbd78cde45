import type { PlatformKind } from "#core/attestation/attestation.ts";
import { decodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { fromHex, fromUtf8, toHex } from "#core/bytes/bytes.ts";
import { composeHash } from "#core/compose/identity.ts";
import { decodeOnePem } from "#core/encoding/pem.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import { SNP_REPORT_BYTES } from "#core/sev-snp/report.ts";
import { parseQuote } from "#core/tdx/quote.ts";
import { parseX509Certificate, type X509Certificate } from "#core/x509/x509-certificate.ts";
import { MAX_REQUEST_BYTES } from "../request.ts";

/** Evidence as members of a request, and what it is in words. */
export interface Evidence {
  readonly members: Readonly<Record<string, unknown>>;
  readonly what: string;
  /** A quote by itself: it proves hardware, and nothing about an app. */
  readonly isBare: boolean;
}

/** What somebody pasted or dropped, told apart by its content, never by its name. */
export type Material =
  | {
    readonly kind: "evidence";
    readonly evidence: Evidence;
    readonly collateral: unknown;
    /** Time, expectations and policy of a whole request: whoever made it need not be whoever judges. */
    readonly settings: Readonly<Record<string, unknown>>;
  }
  | { readonly kind: "collateral"; readonly collateral: unknown }
  | { readonly kind: "app-compose"; readonly composeHash: string }
  | {
    readonly kind: "certificate";
    readonly certificate: X509Certificate;
    readonly bytes: Uint8Array;
  };

const SETTINGS = ["time", "reference", "policy"] as const;

/** Throws `input/…` for what is none of these, saying what was expected. */
export function recognise(bytes: Uint8Array): Material {
  if (bytes.length > MAX_REQUEST_BYTES) {
    throw new AppError("input/too-large", "This is too large for evidence");
  }
  const [first = 0, second = 0] = bytes;
  // Containers and quotes start with what no text does; DER with a SEQUENCE of a long length.
  if (bytes.length > 0 && (first < 0x09 || first >= 0x80)) return ofBytes(bytes);
  if (first === 0x30 && second >= 0x80) {
    return { kind: "certificate", certificate: parseX509Certificate(bytes), bytes };
  }
  const text = fromUtf8(bytes, "the text").trim();
  if (text === "") throw new AppError("input/malformed", "There is nothing in it");
  if (text.startsWith("{")) return ofJson(bytes);
  if (text.includes("-----BEGIN")) {
    const certificate = parseX509Certificate(decodeOnePem("CERTIFICATE", text));
    return { kind: "certificate", certificate, bytes };
  }
  const hex = text.replaceAll(/\s+/g, "");
  if (/^(0x)?[0-9a-fA-F]+$/.test(hex)) return ofBytes(fromHex(hex));
  throw new AppError(
    "input/malformed",
    "This is neither evidence (hex, JSON or the file itself) nor collateral, an app-compose or a " +
      "certificate",
  );
}

function ofJson(bytes: Uint8Array): Material {
  const limits = { maxSize: MAX_REQUEST_BYTES };
  const json = parseStrictJson(bytes, "JSON", limits) as Record<string, unknown>;
  if ("tcb_info" in json) return { kind: "collateral", collateral: json };
  if ("docker_compose_file" in json) {
    return { kind: "app-compose", composeHash: toHex(composeHash(bytes)) };
  }
  if (json["schema"] === "dstack-edge/verdict/v1") {
    throw new AppError("input/unsupported", "This is a verdict, not evidence: verify it anew");
  }
  const { attestation, quote, event_log: eventLog, vm_config: vmConfig } = json;
  const settings = Object.fromEntries(
    SETTINGS.filter((name) => name in json).map((name) => [name, json[name]]),
  );
  const rest = { collateral: json["collateral"] ?? undefined, settings };
  if (typeof attestation === "string") {
    const evidence = attestationEvidence(fromHex(attestation));
    // What AMD, AWS or Google signed: like collateral, trusted only once it is verified.
    const { vendor_documents: documents } = json;
    const members = { ...evidence.members, ...(documents ? { vendor_documents: documents } : {}) };
    return { kind: "evidence", evidence: { ...evidence, members }, ...rest };
  }
  if (typeof quote === "string") {
    const hasLog = typeof eventLog === "string" && eventLog !== "";
    const log: Record<string, string> = hasLog
      ? { event_log: eventLog, vm_config: typeof vmConfig === "string" ? vmConfig : "" }
      : {};
    const evidence = quoteEvidence(fromHex(quote));
    return {
      kind: "evidence",
      evidence: {
        members: { ...evidence.members, ...log },
        what: hasLog ? `${evidence.what}, with its event log` : evidence.what,
        isBare: !hasLog,
      },
      ...rest,
    };
  }
  throw new AppError(
    "input/malformed",
    "This JSON is neither evidence (attestation, or quote) nor collateral nor an app-compose",
  );
}

function ofBytes(bytes: Uint8Array): Material {
  requireNoBareDocument(bytes);
  const [first, second] = bytes;
  // A quote starts with its version, 3 to 5, in 16 bits; no attestation starts so.
  const isQuote = second === 0 && first !== undefined && first >= 3 && first <= 5;
  const evidence = isQuote ? quoteEvidence(bytes) : attestationEvidence(bytes);
  return { kind: "evidence", evidence, collateral: undefined, settings: {} };
}

/** SEV-SNP reports and Nitro documents say nothing about an app without the attestation around them. */
function requireNoBareDocument(bytes: Uint8Array): void {
  const [a, b, c, d] = bytes;
  const isSnpReport = bytes.length === SNP_REPORT_BYTES && a! >= 2 && a! <= 5 &&
    (b! | c! | d!) === 0;
  // A COSE_Sign1 array of four, perhaps tagged (RFC 9052), whose first is a short byte string.
  const isNitroDocument = (a === 0xd2 ? b : a) === 0x84 && ((a === 0xd2 ? c : b)! & 0xe0) === 0x40;
  if (!isSnpReport && !isNitroDocument) return;
  throw new AppError(
    "input/unsupported",
    `This is ${
      isSnpReport ? "an AMD SEV-SNP report" : "an AWS Nitro document"
    } by itself: paste the attestation it came in, which says what was launched`,
  );
}

const PLATFORM_NAMES: Readonly<Record<PlatformKind, string>> = {
  "tdx": "An Intel TDX",
  "gcp-tdx": "A Google Cloud TDX",
  "sev-snp": "An AMD SEV-SNP",
  "nitro-enclave": "An AWS Nitro enclave's",
  "aws-nitro-tpm": "An AWS NitroTPM",
};

function attestationEvidence(bytes: Uint8Array): Evidence {
  const { platform, stack } = decodeAttestation(bytes);
  return {
    members: { attestation: toHex(bytes) },
    what: `${
      PLATFORM_NAMES[platform.kind]
    } attestation with ${stack.runtimeEvents.length} runtime events`,
    isBare: false,
  };
}

function quoteEvidence(bytes: Uint8Array): Evidence {
  const { header } = parseQuote(bytes);
  return {
    members: { quote: toHex(bytes) },
    what: `A version ${header.version} ${header.tee.toUpperCase()} quote`,
    isBare: true,
  };
}

/** The text of bytes for a person: as it is when printable, else hex. */
export function readable(bytes: Uint8Array): string {
  try {
    const text = fromUtf8(bytes);
    // deno-lint-ignore no-control-regex
    if (text !== "" && !/[\u0000-\u001f\u007f-\u009f]/.test(text)) return text;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
  }
  return toHex(bytes);
}
