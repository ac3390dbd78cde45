import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, equalBytes } from "../bytes/bytes.ts";
import type { CryptoProvider } from "../crypto/crypto-provider.ts";
import { refusal, refusing } from "../errors/refusal.ts";
import { replayDigests } from "../event-log/replay.ts";
import type { CertificateRevocationList } from "../x509/certificate-revocation-list.ts";
import { type ChainTime, ChainVerifier, EXTENDED_KEY_USAGE } from "../x509/chain.ts";
import { verifyEcdsa } from "../x509/ecdsa.ts";
import { verifyRsa } from "../x509/rsa.ts";
import type { PublicKey } from "../x509/signature.ts";
import type { X509Certificate } from "../x509/x509-certificate.ts";
import { parseTpmAttest, parseTpmSignature, TPM_ALG, type TpmAttest } from "./attest.ts";
import { type PcrBank, requirePcrBank } from "./pcr.ts";

const SHA256_BYTES = 32;

/** A quote with the values it is over, as evidence carries it. */
export interface TpmQuoteParts {
  /** TPMS_ATTEST. */
  readonly message: Uint8Array;
  /** TPMT_SIGNATURE. */
  readonly signature: Uint8Array;
  readonly pcrValues: readonly {
    readonly index: number;
    readonly algorithm: string;
    readonly value: Uint8Array;
  }[];
  readonly eventLog: readonly { readonly pcrIndex: number; readonly digest: Uint8Array }[];
}

export interface TpmTrust extends ChainTime {
  /** The pinned root of the attestation key's chain. */
  readonly root: X509Certificate;
  readonly crls: readonly CertificateRevocationList[];
  readonly crypto?: CryptoProvider;
}

/** A quote whose values are those it was signed over, and the log's. */
export interface TpmPcrs {
  readonly attest: TpmAttest;
  /** SHA-256. */
  readonly pcrs: PcrBank;
}

/**
 * Verifies the chain of the attestation key, leaf first, and its signature over the quote (spec
 * attestation.md 8.1). Throws `attestation/refused`.
 */
export async function verifyTpmSignature(
  quote: TpmQuoteParts,
  chain: readonly X509Certificate[],
  trust: TpmTrust,
): Promise<void> {
  const usage = EXTENDED_KEY_USAGE.tcgEkCertificate;
  const chains = new ChainVerifier({ ...trust, usage, revocation: "if-known" });
  chains.prepare([chain]);
  await chains.verify(chain, "end-entity", trust);
  const key = chain[0]!.publicKey;
  if (!key || !await isSignedBy(quote, key, trust.crypto)) {
    throw refusal("quote-signature-invalid", "The TPM's quote is not signed by its certified key");
  }
}

async function isSignedBy(
  quote: TpmQuoteParts,
  key: PublicKey,
  crypto: CryptoProvider | undefined,
): Promise<boolean> {
  const { scheme, bytes } = refusing(
    "evidence-malformed",
    () => parseTpmSignature(quote.signature),
  );
  if (scheme === "rsassa") {
    if (!("rsaSpki" in key)) return false;
    const rsassa = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" } as const;
    return await verifyRsa(key, rsassa, quote.message, bytes);
  }
  return "curve" in key && key.curve === "P-256" &&
    await verifyEcdsa(key, quote.message, bytes, crypto);
}

/**
 * The registers of a quote: those it selects, all of SHA-256, with the values its digest is over. Where
 * the log has events of a register, they replay to its value. Throws `attestation/refused`.
 */
export function pcrsOfTpmQuote(quote: TpmQuoteParts): TpmPcrs {
  const attest = refusing(
    "evidence-malformed",
    () => parseTpmAttest(quote.message),
    "evidence-unsupported",
  );
  const { selections, pcrDigest } = attest;
  if (selections.some(({ hash }) => hash !== TPM_ALG.sha256)) {
    throw refusal("evidence-unsupported", "The TPM's quote is over registers of another hash");
  }
  if (quote.pcrValues.some(({ algorithm }) => algorithm !== "sha256")) {
    throw mismatch("The TPM's registers are not named as SHA-256");
  }
  const selected = selections.flatMap(({ indexes }) => indexes);
  const supplied = quote.pcrValues.map(({ index }) => index);
  if (selected.length === 0 || selected.join() !== supplied.join()) {
    throw mismatch("The TPM's quote is over other registers than those supplied");
  }
  const pcrs = requirePcrBank(
    quote.pcrValues.map(({ index, value }) => [index, value] as const),
    SHA256_BYTES,
    (why) => mismatch(`The TPM's quote ${why}`),
  );
  if (!equalBytes(sha256(concatBytes(...pcrs.values())), pcrDigest)) {
    throw mismatch("The TPM signed other values than those supplied");
  }
  for (const [index, value] of pcrs) {
    const digests = quote.eventLog.filter(({ pcrIndex }) => pcrIndex === index)
      .map(({ digest }) => digest);
    if (digests.length > 0 && !equalBytes(replayDigests(digests, "sha256"), value)) {
      throw refusal("event-log-mismatch", `The TPM's log does not replay to PCR${index}`);
    }
  }
  return { attest, pcrs };
}

function mismatch(detail: string) {
  return refusal("tpm-quote-mismatch", detail);
}
