import { keccak_256 } from "@noble/hashes/sha3.js";
import { paddedReportData } from "#core/attestation/report-data.ts";
import { toHex, utf8 } from "#core/bytes/bytes.ts";
import { k256PublicKey } from "#core/crypto/k256.ts";
import { p256Spki } from "#core/crypto/p256.ts";
import { bootInfoOf } from "./boot-info.ts";
import { recorded } from "./decision-log.ts";
import { parseDomain } from "./domain.ts";
import {
  type BootstrapInfo,
  generateKeySet,
  type KeyFiles,
  requireNoKeys,
  storeNewKeys,
  wipe,
} from "./key-store.ts";
import type { DecidingPorts } from "./ports.ts";
import { authReasonCode, denied } from "./reasons.ts";
import { SelfAuthorization, selfFailure } from "./self.ts";

/** What a bootstrap published: the public keys, and the attestation over them where there is a TEE. */
export type BootstrapResult = Omit<BootstrapInfo, "attestation"> & {
  readonly attestation: Uint8Array | undefined;
};

/**
 * Makes the root keys of a first KMS (kms.md 2.3, 5.2). Refused when any file of a KMS is already
 * there, and unless the auth API allows this very CVM to be one.
 */
export function bootstrap(
  ports: DecidingPorts,
  files: KeyFiles,
  domainText: string,
): Promise<BootstrapResult> {
  const request = { method: "Bootstrap", requestId: crypto.randomUUID() };
  return recorded(ports, request, async (subject) => {
    const domain = parseDomain(domainText);
    await requireNoKeys(files, "KMS has already been bootstrapped");
    await requireSelfAllowed(ports);
    const keys = generateKeySet();
    const caPublicKey = p256Spki(keys.caKey);
    const k256Public = k256PublicKey(keys.k256Key);
    const attestation = await ports.self?.attest(bootstrapReportData(caPublicKey, k256Public));
    const bootstrapInfo = attestation === undefined
      ? undefined
      : { caPublicKey, k256PublicKey: k256Public, attestation };
    try {
      await storeNewKeys(files, { keys, domain, bootstrapInfo });
    } finally {
      wipe(keys);
    }
    subject.note = `root keys made for ${domain}, CA ${toHex(caPublicKey).slice(-16)}`;
    return { caPublicKey, k256PublicKey: k256Public, attestation };
  });
}

/** 64 bytes; the misspelling belongs to the format. */
export function bootstrapReportData(
  caPublicKey: Uint8Array,
  k256PublicKey: Uint8Array,
): Uint8Array {
  const text = `dstack-kms-genereted-keys-v1:${toHex(caPublicKey)};${toHex(k256PublicKey)};`;
  return paddedReportData(keccak_256(utf8(text)));
}

async function requireSelfAllowed(ports: DecidingPorts): Promise<void> {
  if (!ports.policy.enforceSelfAuthorization) return;
  const refused = "KMS is not allowed to bootstrap";
  let answer;
  try {
    const { verdict, attestation } = await new SelfAuthorization(ports).appraisal();
    answer = await ports.authApi.authorize("kms", bootInfoOf(verdict, attestation, "runtime"));
  } catch (cause) {
    throw selfFailure(refused, cause);
  }
  if (!answer.isAllowed) {
    throw denied(
      authReasonCode(answer),
      `${refused}: boot denied: ${answer.reason}`,
      undefined,
      answer.remedy,
    );
  }
}
