import { fromHex } from "#core/bytes/bytes.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import { collateralFromJson, type QuoteCollateral } from "#core/tdx/collateral.ts";
import { isCollateralPack, MAX_PACK_BYTES, openCollateralPack } from "#core/tdx/collateral-pack.ts";
import { platformKindOf } from "#core/tdx/platform-kind.ts";
import type { Quote } from "#core/tdx/quote.ts";
import type { CliPorts } from "./context.ts";
import { readInput } from "./input-file.ts";

/** Collateral for a quote from a file: one platform's, or a pack that `signer` (hex) signed. */
export async function readCollateral(
  path: string,
  signer: string | undefined,
  quote: Quote | undefined,
  ports: CliPorts,
): Promise<QuoteCollateral | undefined> {
  const bytes = await readInput(path, ports);
  const json = parseStrictJson(bytes, "collateral", { maxSize: MAX_PACK_BYTES });
  if (!isCollateralPack(json)) return collateralFromJson(json);
  if (signer === undefined) {
    throw new AppError("config/invalid", `${path} is a collateral pack: name its --pack-signer`);
  }
  const pack = openCollateralPack(bytes, [fromHex(signer, "--pack-signer")]);
  const collateral = quote && pack.collateralFor(quote);
  if (quote && collateral === undefined) {
    const kind = platformKindOf(quote) ?? "platforms without a PCK certificate";
    throw new AppError("input/malformed", `${path} holds no collateral for ${kind}`);
  }
  return collateral;
}
