import { equalBytes, isZero } from "../bytes/bytes.ts";
import type { CryptoProvider } from "../crypto/crypto-provider.ts";
import { refusal, refusing } from "../errors/refusal.ts";
import type { CertificateRevocationList } from "../x509/certificate-revocation-list.ts";
import { type ChainTime, ChainVerifier } from "../x509/chain.ts";
import { chainFrom } from "../x509/chain-order.ts";
import { ecdsaKeyOf, verifyEcdsa } from "../x509/ecdsa.ts";
import type { X509Certificate } from "../x509/x509-certificate.ts";
import { endorsementKeyOf, type SnpEndorsementKey } from "./endorsement-key.ts";
import { productOfCpu, readSnpTcb, type SnpProduct, type SnpTcb } from "./product.ts";
import type { SnpReport } from "./report.ts";

export interface SnpTrust extends ChainTime {
  /** The pinned root (ARK). */
  readonly root: X509Certificate;
  /** The product that root is for; undefined for a root its owner supplied. */
  readonly product: SnpProduct | undefined;
  readonly crls: readonly CertificateRevocationList[];
  readonly crypto?: CryptoProvider;
}

/**
 * The certificates that lead from a report's key to its root, leaf first. Throws `attestation/refused`
 * when the report's own key is not among them.
 */
export function snpChainOf(
  report: SnpReport,
  certificates: readonly X509Certificate[],
): X509Certificate[] {
  if (report.signingKey === "none" || report.chipKeyMasked) {
    throw refusal("quote-signature-invalid", "The report is not signed: the chip's key is masked");
  }
  const keys = certificates.filter(({ isCa }) => !isCa);
  const own = keys.find((one) =>
    refusing("certificate-malformed", () => endorsementKeyOf(one)).kind === report.signingKey
  );
  if (!own) {
    const name = report.signingKey.toUpperCase();
    throw refusal("endorsement-missing", `There is no certificate of the report's ${name}`);
  }
  return chainFrom(own, certificates);
}

/**
 * Verifies the chain (spec attestation.md 8.3) and that its key signed the report; answers what AMD
 * certified about the key. AMD's revocation lists count where the caller has them. Throws
 * `attestation/refused`.
 */
export async function verifySnpSignature(
  report: SnpReport,
  chain: readonly X509Certificate[],
  trust: SnpTrust,
): Promise<SnpEndorsementKey> {
  const chains = new ChainVerifier({ ...trust, revocation: "if-known" });
  chains.prepare([chain]);
  await chains.verify(chain, "end-entity", trust);
  const leaf = chain[0]!;
  const key = ecdsaKeyOf(leaf.publicKey, "P-384");
  if (!key) throw refusal("certificate-usage-invalid", "The report's key is not of P-384");
  if (!await verifyEcdsa(key, report.signedBytes, report.signature, trust.crypto)) {
    throw refusal("quote-signature-invalid", "The report is not signed by the certified key");
  }
  return refusing("certificate-malformed", () => endorsementKeyOf(leaf));
}

/**
 * That root, certificate and report are about one platform: product, chip, and the TCB the key was
 * derived from. Throws `attestation/refused`.
 */
export function requireSnpPlatform(
  report: SnpReport,
  key: SnpEndorsementKey,
  rootProduct: SnpProduct | undefined,
): void {
  if (rootProduct && rootProduct !== key.product) {
    throw mismatch(`AMD's root for ${rootProduct} certified a key of ${key.product}`);
  }
  if (report.cpu && productOfCpu(report.cpu) !== key.product) {
    throw mismatch(`The report's processor is no ${key.product}`);
  }
  if (key.chipId && !isSameChip(report.chipId, key.chipId)) {
    throw mismatch("The certificate is another chip's");
  }
  const reported = readSnpTcb(report.reportedTcb, key.product);
  if (!isSameTcb(reported, key.tcb)) {
    throw mismatch("The certificate is for another TCB than the report's");
  }
}

/** The report has 64 bytes, of which Turin uses the first 8. */
function isSameChip(reported: Uint8Array, certified: Uint8Array): boolean {
  return equalBytes(reported.subarray(0, certified.length), certified) &&
    isZero(reported.subarray(certified.length)) && !isZero(certified);
}

function isSameTcb(a: SnpTcb, b: SnpTcb): boolean {
  return a.fmc === b.fmc && a.bootloader === b.bootloader && a.tee === b.tee && a.snp === b.snp &&
    a.microcode === b.microcode;
}

/**
 * AMD publishes no levels: a platform is up to date when it runs, committed to, launched this guest with
 * and reports one and the same TCB (spec attestation.md 8.3).
 */
export function snpTcbStatus(report: SnpReport): "UpToDate" | "OutOfDate" {
  const { currentTcb, committedTcb, launchTcb, reportedTcb } = report;
  const isOne = [committedTcb, launchTcb, reportedTcb].every((tcb) => equalBytes(tcb, currentTcb));
  return isOne ? "UpToDate" : "OutOfDate";
}

/** Refuses a guest that its host may debug. Throws `attestation/refused`. */
export function requireNoSnpDebug({ policy }: SnpReport): void {
  if (policy.debugAllowed) {
    throw refusal("debug-enabled", "The guest's policy lets the host debug it: it can be read");
  }
}

/**
 * Refuses everything else a production guest must not have: a report for less privileged code than the
 * kernel, a migration agent, and a platform that does not keep what the guest's policy asks for. Throws
 * `attestation/refused`.
 */
export function requireSnpAttributes({ policy, platform, vmpl }: SnpReport): void {
  if (vmpl !== 0) throw notAllowed(`The report was made at privilege level ${vmpl}, not 0`);
  if (!policy.reservedBitsHold) throw notAllowed("The guest's policy has a reserved bit wrong");
  if (policy.migrationAgentAllowed) throw notAllowed("The guest may be migrated by an agent");
  if (!policy.smtAllowed && platform.smtEnabled) {
    throw notAllowed("The guest forbids SMT and the platform has it on");
  }
  if (policy.raplMustBeOff && !platform.raplOff) {
    throw notAllowed("The guest forbids RAPL and the platform has it on");
  }
  if (policy.ciphertextHidingRequired && !platform.ciphertextHiding) {
    throw notAllowed("The guest requires ciphertext hiding and the platform has it off");
  }
}

function mismatch(detail: string) {
  return refusal("platform-mismatch", detail);
}

function notAllowed(detail: string) {
  return refusal("attributes-not-allowed", detail);
}
