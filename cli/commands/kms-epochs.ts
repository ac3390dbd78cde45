import type { Command } from "commander";
import { type EpochManifest, verifyEpochManifest } from "#core/crypto/epoch-manifest.ts";
import { fromHex } from "#core/bytes/bytes.ts";
import { type CliPorts, dataOf, type GlobalOptions } from "../context.ts";
import { kmsAdminClient, type KmsAdminOptions, kmsClient, type KmsOptions } from "../kms-client.ts";

interface EpochsOptions extends GlobalOptions, KmsOptions {
  readonly key?: string;
}

interface FetchOptions extends GlobalOptions, KmsAdminOptions {
  readonly from: string;
}

/** Commands about epochs of the root keys: rotate, fetch-epochs, epochs. */
export function addKmsEpochs(kms: Command, ports: CliPorts): void {
  withAdmin(kms.command("rotate"))
    .description("Make the next epoch of the root keys; what was interrupted is finished first")
    .addHelpText(
      "after",
      "\nExample:\n  $ dstack kms rotate --admin http://127.0.0.1:8001 --admin-token-file token",
    )
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions & KmsAdminOptions>();
      const client = await kmsAdminClient(options, ports);
      show(dataOf(await client.POST("/v1/epochs")), options, ports);
    });

  withAdmin(kms.command("fetch-epochs"))
    .description("Take over the epochs that another KMS of the deployment made")
    .requiredOption("--from <url>", "URL of that KMS")
    .addHelpText(
      "after",
      "\nExample:\n  $ dstack kms fetch-epochs --admin http://127.0.0.1:8001 --from https://kms-1.example:8000",
    )
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<FetchOptions>();
      const client = await kmsAdminClient(options, ports);
      const body = { source_url: options.from };
      show(dataOf(await client.POST("/v1/epochs/fetch", { body })), options, ports);
    });

  kms.command("epochs")
    .description("Show the epochs of the root keys after checking their signatures")
    .option("--kms <url>", "URL of the KMS (DSTACK_KMS)")
    .option("--kms-ca <file>", "PEM root certificate of the KMS; the system's, unless given")
    .option(
      "--key <hex>",
      "secp256k1 root key of an epoch you trust; epoch 0 as it says, unless given",
    )
    .addHelpText(
      "after",
      "\nExample:\n  $ dstack kms epochs --kms https://kms.example:8000 --kms-ca root-ca.crt",
    )
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<EpochsOptions>();
      const client = await kmsClient(options, ports);
      const manifest = dataOf(await client.GET("/v1/epochs"));
      const trusted = options.key ?? manifest.epochs[0]?.k256_public_key ?? "";
      verifyEpochManifest(manifest, fromHex(trusted, "--key", 33));
      show(manifest, options, ports);
    });
}

function withAdmin(command: Command): Command {
  return command
    .option("--admin <url>", "the KMS's admin listener (DSTACK_KMS_ADMIN)")
    .option("--admin-token-file <file>", "file with its token (DSTACK_KMS_ADMIN_TOKEN)");
}

function show(manifest: EpochManifest, { json }: GlobalOptions, ports: CliPorts): void {
  if (json) return ports.print(JSON.stringify(manifest));
  for (const { epoch, k256_public_key, created_at } of manifest.epochs) {
    ports.print(`epoch ${epoch}  ${created_at}  ${k256_public_key}`);
  }
}
