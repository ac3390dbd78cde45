import { ed25519 } from "@noble/curves/ed25519.js";
import { equalBytes, fromHex, fromUtf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { type Allowlist, parseAllowlist } from "./allowlist.ts";
import type { AuthBackend } from "./backend.ts";
import { denial } from "./policy.ts";

/** The allowlist as it lies in its files. */
export interface AllowlistFiles {
  readonly allowlist: Uint8Array;
  /** Of the file beside it, `<allowlist>.sig`: 64 bytes, or their hex. */
  readonly signature: Uint8Array | undefined;
}

export interface SimpleBackendOptions {
  /** Reads the files anew. Rejects when there is no allowlist. */
  readonly read: () => Promise<AllowlistFiles>;
  readonly now: () => Date;
  /** Ed25519 public keys, 32 bytes each; one of them must have signed. Empty: no signature is asked for. */
  readonly signers: readonly Uint8Array[];
  /** The highest sequence number ever accepted; kept from run to run. */
  readonly sequence?: {
    readonly read: () => Promise<number>;
    readonly write: (sequence: number) => Promise<void>;
  };
}

/**
 * One allowlist file, read for each request, so that a change counts at once. A file that is missing,
 * invalid, not signed, out of date or older than one seen before denies everything.
 */
export function simpleBackend(options: SimpleBackendOptions): AuthBackend {
  const current = allowlistReader(options);
  return {
    name: "simple",
    decide: async (role, boot) => {
      const allowlist = await current();
      const denied = denial(role, boot, allowlist);
      const rule = allowlist.sequence === undefined
        ? "allowlist"
        : `allowlist ${allowlist.sequence}`;
      const { gatewayAppId } = allowlist;
      return denied === undefined
        ? { isAllowed: true, gatewayAppId, reason: "", rule }
        : { isAllowed: false, gatewayAppId, reason: denied.reason, rule, remedy: denied.remedy };
    },
    info: async () => {
      const { kmsContractAddr, gatewayAppId, chainId, appImplementation } = await current();
      return { kmsContractAddr, ethRpcUrl: "", gatewayAppId, chainId, appImplementation };
    },
  };
}

/** Reads the allowlist and checks all that makes it count. Throws `config/invalid`. */
export function allowlistReader(options: SimpleBackendOptions): () => Promise<Allowlist> {
  const { signers, sequence } = options;
  let last: { readonly files: AllowlistFiles; readonly allowlist: Allowlist } | undefined;
  let highest: number | undefined;
  return async () => {
    let files: AllowlistFiles;
    try {
      files = await options.read();
    } catch (cause) {
      throw invalid("Allowlist cannot be read", cause);
    }
    if (last === undefined || !sameFiles(files, last.files)) {
      if (signers.length > 0) requireSigned(files, signers);
      last = { files, allowlist: parseAllowlist(fromUtf8(files.allowlist, "allowlist")) };
    }
    const { allowlist } = last;
    const { validUntil } = allowlist;
    if (signers.length > 0 && (allowlist.sequence === undefined || validUntil === undefined)) {
      throw invalid("A signed allowlist needs sequence and validUntil: else an old one would do");
    }
    if (validUntil !== undefined && options.now() > new Date(validUntil)) {
      throw stale(`Allowlist is out of date: it was valid until ${validUntil}`);
    }
    if (allowlist.sequence !== undefined && sequence !== undefined) {
      highest ??= await sequence.read();
      if (allowlist.sequence < highest) {
        throw stale(`Allowlist ${allowlist.sequence} is older than ${highest}, seen before`);
      }
      if (allowlist.sequence > highest) {
        await sequence.write(allowlist.sequence);
        highest = allowlist.sequence;
      }
    }
    return allowlist;
  };
}

function sameFiles(a: AllowlistFiles, b: AllowlistFiles): boolean {
  const [left, right] = [a.signature ?? new Uint8Array(), b.signature ?? new Uint8Array()];
  return equalBytes(a.allowlist, b.allowlist) && equalBytes(left, right);
}

function requireSigned(
  { allowlist, signature }: AllowlistFiles,
  signers: readonly Uint8Array[],
): void {
  if (signature === undefined) throw invalid("Allowlist is not signed: there is no .sig file");
  const raw = signature.length === 64
    ? signature
    : fromHex(fromUtf8(signature, "signature").trim(), "signature", 64);
  const signed = signers.some((key) => ed25519.verify(raw, allowlist, key, { zip215: false }));
  if (!signed) throw invalid("Allowlist is not signed by any of the signers");
}

function invalid(message: string, cause?: unknown, reason = "auth/allowlist-invalid"): AppError {
  return new AppError("config/invalid", message, { cause, fields: { reason } });
}

function stale(message: string): AppError {
  return invalid(message, undefined, "auth/allowlist-stale");
}
