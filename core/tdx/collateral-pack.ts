import { equalBytes, fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { p256Spki, signP256, verifyP256 } from "../crypto/p256.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { parseRfc3339 } from "../encoding/rfc3339.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { AppError } from "../errors/app-error.ts";
import { collateralFromJson, collateralToJson, type QuoteCollateral } from "./collateral.ts";
import { platformKindOf } from "./platform-kind.ts";
import type { Quote } from "./quote.ts";
import { parseTcbInfo } from "./tcb-info.ts";

export const COLLATERAL_PACK_SCHEMA = "dstack-edge/collateral-pack/v1";

/** The largest pack, in bytes: some hundred kinds of platform. */
export const MAX_PACK_BYTES = 16 * 1024 * 1024;
const MAX_ENTRIES = 512;

/**
 * Collateral for several kinds of platform in one signed document, to be shipped with a product and
 * used where no PCCS is reached. Its signer vouches for having fetched it at the time it says, and for
 * nothing more: Intel's own signatures are verified all the same, and how old collateral may be is the
 * policy's to say.
 */
export interface CollateralPack {
  /** When its signer made it. */
  readonly createdAt: Date;
  /** Kinds of platform as `platformKindOf` names them. */
  readonly platforms: readonly string[];
  /** Undefined for a platform it does not hold. */
  collateralFor(quote: Quote): QuoteCollateral | undefined;
}

/** Signs a pack with a P-256 scalar. Answers its JSON. */
export function createCollateralPack(
  entries: ReadonlyMap<string, QuoteCollateral>,
  createdAt: Date,
  key: Uint8Array,
): string {
  const pack = JSON.stringify({
    created_at: createdAt.toISOString().replace(/\.\d+Z$/, "Z"),
    entries: [...entries].sort(([a], [b]) => a < b ? -1 : 1).map(([platform, collateral]) => ({
      platform,
      collateral: collateralToJson(collateral),
    })),
  });
  return JSON.stringify({
    schema: COLLATERAL_PACK_SCHEMA,
    signer: toHex(p256Spki(key)),
    signature: toHex(signP256(key, signedBytes(pack))),
    pack,
  });
}

/** Whether a JSON value says it is a pack: collateral alone looks otherwise. */
export function isCollateralPack(value: unknown): boolean {
  return (value as { schema?: unknown } | null)?.schema === COLLATERAL_PACK_SCHEMA;
}

/**
 * Opens a pack that one of `signers` (DER SubjectPublicKeyInfo) signed. Throws
 * `crypto/invalid-signature` for another's, `input/malformed` or `input/too-large`.
 */
export function openCollateralPack(
  document: Uint8Array | string,
  signers: readonly Uint8Array[],
): CollateralPack {
  const limits = { maxSize: MAX_PACK_BYTES };
  const envelope = new JsonObject(parseStrictJson(document, "collateral pack", limits), "pack")
    .only(["schema", "signer", "signature", "pack"]);
  envelope.oneOf("schema", [COLLATERAL_PACK_SCHEMA]);
  const signer = envelope.hex("signer", undefined);
  if (!signers.some((one) => equalBytes(one, signer))) {
    throw new AppError("crypto/invalid-signature", "The collateral pack is signed by a stranger");
  }
  const text = envelope.string("pack");
  verifyP256(signer, signedBytes(text), envelope.hex("signature", undefined));

  const pack = new JsonObject(parseStrictJson(text, "collateral pack", limits), "pack");
  const list = pack.array("entries");
  if (list.length > MAX_ENTRIES) throw pack.malformed("entries", "are too many");
  const entries = new Map<string, QuoteCollateral>();
  for (const value of list) {
    const entry = new JsonObject(value, "pack entry").only(["platform", "collateral"]);
    const platform = entry.string("platform");
    const collateral = collateralFromJson(entry.raw("collateral"));
    const { id, fmspc } = parseTcbInfo(collateral.tcbInfo);
    const [tee, , named] = platform.split("/");
    if (id.toLowerCase() !== tee || named === undefined || !equalBytes(fmspc, fromHex(named))) {
      throw entry.malformed(
        "platform",
        `${platform.slice(0, 40)} is not what the collateral is for`,
      );
    }
    if (entries.has(platform)) throw entry.malformed("platform", "is repeated");
    entries.set(platform, collateral);
  }
  return {
    createdAt: parseRfc3339(pack.string("created_at"), "created_at"),
    platforms: [...entries.keys()],
    collateralFor: (quote) => entries.get(platformKindOf(quote) ?? ""),
  };
}

function signedBytes(pack: string): Uint8Array {
  return utf8(`${COLLATERAL_PACK_SCHEMA}\n${pack}`);
}
