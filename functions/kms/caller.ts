import { AppError } from "#core/errors/app-error.ts";
import type { ConnectionBindings } from "#core/http/bindings.ts";
import { parseCertificate } from "#core/ra-tls/certificate.ts";
import { type BoundEvidence, peerEvidence } from "#core/ra-tls/peer.ts";
import { decisionReason, denied } from "./reasons.ts";

/** Hono's environment of the RPC listener. */
export interface KmsEnv {
  Bindings: ConnectionBindings;
}

/** Who asks: a request, and what the connection it came on proves. */
export interface Caller {
  readonly requestId: string;
  /** Throws `attestation/missing`, or `kms/denied` when it was made for another key. */
  readonly evidence: () => BoundEvidence;
}

/** A caller over TLS: the evidence is in the client certificate. */
export function tlsCaller(bindings: ConnectionBindings | undefined): Caller {
  const certificate = bindings?.peerCertificate;
  return {
    requestId: crypto.randomUUID(),
    evidence: () => {
      const evidence = certificate === undefined
        ? undefined
        : asQuote(() => peerEvidence(parseCertificate(certificate)));
      if (evidence !== undefined) return evidence;
      throw new AppError("attestation/missing", "No attestation provided");
    },
  };
}

/** Names the evidence as what could not be used. */
export function asQuote<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause;
    throw denied(decisionReason(cause), "invalid quote", cause);
  }
}
