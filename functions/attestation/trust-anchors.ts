import { sha256 } from "@noble/hashes/sha2.js";
import {
  type Endorsement,
  parseTrustAnchor,
  type TrustAnchor,
  VENDOR_TRUST_ANCHORS,
} from "#core/attestation/trust-anchor.ts";
import { toHex } from "#core/bytes/bytes.ts";
import type { AttestationConfig } from "./config.ts";

/** `root_ca` of the configuration: each key stands for one vendor's root. */
export type RootName = keyof AttestationConfig["root_ca"];

const VOUCHES_FOR: Readonly<Record<RootName, Endorsement>> = {
  tdx: "intel",
  gcp_tpm: "gcp-tpm",
  aws_nitro_enclave: "aws-nitro-enclave",
  aws_nitro_tpm: "aws-nitro-tpm",
  sev_snp_milan: "amd-milan",
  sev_snp_genoa: "amd-genoa",
  sev_snp_turin: "amd-turin",
};
export const ROOT_NAMES = Object.keys(VOUCHES_FOR) as RootName[];

/**
 * Whose evidence a service believes: each vendor's own, or, where its owner names another root (PEM or
 * DER), that root's instead. The name carries the root's digest, so that verdicts and decisions tell
 * roots apart. Throws `config/invalid`.
 */
export function serviceTrustAnchors(
  externalRoots: Readonly<Partial<Record<RootName, Uint8Array | string>>>,
  simulated: boolean,
): readonly TrustAnchor[] {
  const external = ROOT_NAMES.flatMap((name) => {
    const root = externalRoots[name];
    if (root === undefined) return [];
    const options = { simulated, vouchesFor: [VOUCHES_FOR[name]] };
    const anchor = parseTrustAnchor(`external ${name} root`, root, options);
    const fingerprint = toHex(sha256(anchor.certificate.encoded)).slice(0, 16);
    return [{ ...anchor, name: `${anchor.name} ${fingerprint}` }];
  });
  const replaced = external.flatMap(({ vouchesFor }) => vouchesFor);
  const vendors = VENDOR_TRUST_ANCHORS.flatMap((anchor) => {
    const vouchesFor = anchor.vouchesFor!.filter((one) => !replaced.includes(one));
    return vouchesFor.length === 0 ? [] : [{ ...anchor, vouchesFor }];
  });
  return [...external, ...vendors];
}
