import { sha256 } from "@noble/hashes/sha2.js";
import type { Attestation } from "#core/attestation/attestation.ts";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { pckChainOf } from "#core/tdx/pck-chain.ts";
import { pckPlatformOf } from "#core/tdx/pck-certificate.ts";
import { parseQuote } from "#core/tdx/quote.ts";
import { decodePem } from "#core/encoding/pem.ts";
import { parseX509Certificate } from "#core/x509/x509-certificate.ts";
import { bootInfoOf } from "./boot-info.ts";
import type { DecidingPorts } from "./ports.ts";
import { SelfAuthorization } from "./self.ts";

/** What an operator puts on an allowlist so that this instance may be a KMS (kms.md 2.3). */
export interface AttestationInfo {
  /** SHA-256 of `ppid`, 32 bytes. */
  readonly deviceId: Uint8Array;
  readonly mrAggregated: Uint8Array;
  readonly osImageHash: Uint8Array;
  readonly teeVariant: string;
  readonly siteName: string;
  /** Empty where the auth API does not say. */
  readonly ethRpcUrl: string;
  readonly kmsContractAddress: string;
  /** The platform's raw id. */
  readonly ppid: Uint8Array;
}

/** Attests to this very instance. Throws when there is no agent or its evidence is refused. */
export async function attestationInfo(ports: DecidingPorts): Promise<AttestationInfo> {
  const { verdict, attestation } = await new SelfAuthorization(ports).appraisal();
  const boot = bootInfoOf(verdict, attestation, "runtime");
  const ppid = platformIdOf(attestation);
  if (toHex(sha256(ppid)) !== boot.deviceId) {
    throw new AppError("internal", "The platform's id is not the one that was verified");
  }
  let info;
  try {
    info = await ports.authApi.info();
  } catch (error) {
    ports.log.error("asking the auth API for its info", error);
  }
  return {
    deviceId: fromHex(boot.deviceId),
    mrAggregated: fromHex(boot.mrAggregated),
    osImageHash: fromHex(boot.osImageHash),
    teeVariant: boot.teeVariant,
    siteName: ports.policy.siteName,
    ethRpcUrl: info?.ethRpcUrl ?? "",
    kmsContractAddress: info?.kmsContractAddress ?? "",
    ppid,
  };
}

/** The PPID in the quote's PCK certificate. */
function platformIdOf({ platform }: Attestation): Uint8Array {
  if (platform.kind !== "tdx") {
    throw new AppError("input/unsupported", `Evidence of kind ${platform.kind} is not supported`);
  }
  const [leaf] = decodePem("CERTIFICATE", pckChainOf(parseQuote(platform.quote)));
  if (leaf === undefined) {
    throw new AppError("input/malformed", "The quote carries no PCK certificate");
  }
  return pckPlatformOf(parseX509Certificate(leaf)).ppid;
}
