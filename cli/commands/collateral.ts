import type { Command } from "commander";
import { toHex, utf8 } from "#core/bytes/bytes.ts";
import { encodeP256Pkcs8, p256Spki, parseP256Pkcs8, randomP256Scalar } from "#core/crypto/p256.ts";
import { decodeOnePem, encodePem } from "#core/encoding/pem.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { QuoteCollateral } from "#core/tdx/collateral.ts";
import { createCollateralPack } from "#core/tdx/collateral-pack.ts";
import { fetchCollateral, INTEL_PCS_URL } from "#core/tdx/pccs-client.ts";
import { platformKindOf } from "#core/tdx/platform-kind.ts";
import { parseQuote } from "#core/tdx/quote.ts";
import { readCollateral } from "../collateral-file.ts";
import type { CliPorts, GlobalOptions } from "../context.ts";
import { rawOrHex, readInput, readInputText } from "../input-file.ts";

interface PackOptions extends GlobalOptions {
  readonly key: string;
  readonly out: string;
  readonly pccs: string;
  readonly collateral?: string;
}

/** Collateral as files, for verifiers that reach no PCCS. */
export function addCollateral(program: Command, ports: CliPorts): void {
  const collateral = program.command("collateral")
    .description("Keep what Intel publishes about platforms for verifiers that cannot fetch it");

  collateral.command("keygen")
    .description("Make the key that signs packs; prints its signer, which verifiers name")
    .requiredOption("--out <file>", "PEM of the private key, readable by its owner alone")
    .addHelpText("after", "\nExample:\n  $ dstack collateral keygen --out pack-key.pem")
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<{ out: string } & GlobalOptions>();
      const key = randomP256Scalar();
      await ports.writeFile(options.out, utf8(encodePem("PRIVATE KEY", encodeP256Pkcs8(key))));
      const signer = toHex(p256Spki(key));
      ports.print(options.json ? JSON.stringify({ signer }) : signer);
    });

  collateral.command("pack")
    .description("Fetch collateral for the platforms of some quotes into one signed file")
    .argument("<quotes...>", "a quote of each kind of platform, raw bytes or hex")
    .requiredOption("--key <pem>", "the key that signs")
    .requiredOption("--out <file>", "the pack")
    .option("--pccs <url>", "where collateral is fetched from", INTEL_PCS_URL)
    .option("--collateral <file>", "collateral as JSON, instead of fetching it")
    .addHelpText(
      "after",
      "\nExample:\n  $ dstack collateral pack --key pack-key.pem --out pack.json host1.quote host2.quote",
    )
    .action(async (paths: readonly string[], _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<PackOptions>();
      const key = parseP256Pkcs8(
        decodeOnePem("PRIVATE KEY", await readInputText(options.key, ports)),
      );
      const entries = new Map<string, QuoteCollateral>();
      for (const path of paths) {
        const quote = parseQuote(rawOrHex(await readInput(path, ports)));
        const platform = platformKindOf(quote);
        if (platform === undefined) {
          throw new AppError("input/unsupported", `${path} carries no PCK certificate`);
        }
        const found = options.collateral === undefined
          ? await fetchCollateral(quote, {
            baseUrl: options.pccs,
            fetch: options.pccs.startsWith("https:") ? ports.tlsFetch(undefined) : ports.fetch,
          })
          : await readCollateral(options.collateral, undefined, quote, ports);
        entries.set(platform, found!);
      }
      const pack = createCollateralPack(entries, ports.now(), key);
      await ports.writeFile(options.out, utf8(pack));
      const facts = { platforms: [...entries.keys()].sort(), signer: toHex(p256Spki(key)) };
      ports.print(
        options.json
          ? JSON.stringify(facts)
          : `${options.out}: ${facts.platforms.join(", ")}\nsigner ${facts.signer}`,
      );
    });
}
