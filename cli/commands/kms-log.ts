import type { Command } from "commander";
import { equalBytes, fromHex, toHex } from "#core/bytes/bytes.ts";
import { merkleRoot, verifyConsistency } from "#core/crypto/merkle-tree.ts";
import { type SignedTreeHead, verifyTreeHead } from "#core/crypto/tree-head.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import { type CliPorts, dataOf, type GlobalOptions } from "../context.ts";
import { readInput } from "../input-file.ts";
import { type KmsClient, kmsClient, type KmsOptions } from "../kms-client.ts";

interface VerifyOptions extends GlobalOptions, KmsOptions {
  readonly key?: string;
  readonly state?: string;
}

export function addKmsLog(kms: Command, ports: CliPorts): void {
  const log = kms.command("log").description("The KMS's log of every decision about keys");
  log.command("verify")
    .description(
      "Check the log: signature, every leaf, and that it only grew; exits 3 if it did not",
    )
    .option("--kms <url>", "URL of the KMS (DSTACK_KMS)")
    .option("--kms-ca <file>", "PEM root certificate of the KMS; the system's, unless given")
    .option("--key <hex>", "secp256k1 root key of the KMS, 33 bytes; as it says, unless given")
    .option("--state <file>", "where the last verified head is kept from run to run")
    .addHelpText(
      "after",
      "\nExample:\n  $ dstack kms log verify --kms https://kms.example:8000 --kms-ca root-ca.crt --state log.json",
    )
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<VerifyOptions>();
      const client = await kmsClient(options, ports);
      const known = await knownHead(options, ports);
      const head = dataOf(await client.GET("/v1/log/head"));
      const key = options.key === undefined
        ? fromHex(head.public_key, "public_key", 33)
        : fromHex(options.key, "--key", 33);
      verifyTreeHead(key, head);
      if (known !== undefined) await requireGrown(known, head, client);
      const leaves = await leavesOf(head.tree_size, client, ports);
      if (!equalBytes(merkleRoot(leaves), fromHex(head.root_hash))) {
        throw wrong("the root is not that of its leaves");
      }
      if (options.state !== undefined) {
        await ports.writeFile(options.state, new TextEncoder().encode(JSON.stringify(head)));
      }
      if (options.json) return ports.print(JSON.stringify(head));
      ports.print(
        `${head.tree_size} entries, root ${head.root_hash}, signed by ${toHex(key)}` +
          (options.key === undefined ? " (not compared with a known key)" : "") +
          (known === undefined ? "" : `\ngrown from ${known.tree_size} entries, none changed`),
      );
    });
}

/** The head an earlier run verified, if there was one. */
async function knownHead(
  { state }: VerifyOptions,
  ports: CliPorts,
): Promise<SignedTreeHead | undefined> {
  if (state === undefined) return undefined;
  let bytes: Uint8Array;
  try {
    bytes = await readInput(state, ports);
  } catch {
    return undefined; // the first run
  }
  const head = new JsonObject(parseStrictJson(bytes, state), state);
  return {
    tree_size: head.unsigned("tree_size", Number.MAX_SAFE_INTEGER),
    root_hash: toHex(head.hex("root_hash", 32)),
    chain_hash: toHex(head.hex("chain_hash", 32)),
    timestamp: head.string("timestamp"),
    public_key: toHex(head.hex("public_key", 33)),
    signature: toHex(head.hex("signature", 65)),
  };
}

/** The log must begin with what it was when it was last looked at, signed by the same key. */
async function requireGrown(
  known: SignedTreeHead,
  head: SignedTreeHead,
  client: KmsClient,
): Promise<void> {
  if (known.public_key !== head.public_key) throw wrong("it is signed by another key than before");
  if (head.tree_size < known.tree_size) {
    throw wrong(`it has ${head.tree_size} entries, and had ${known.tree_size} before`);
  }
  if (known.tree_size === 0) return;
  const query = { first: known.tree_size, second: head.tree_size };
  const { proof } = dataOf(await client.GET("/v1/log/proof/consistency", { params: { query } }));
  verifyConsistency(
    known.tree_size,
    fromHex(known.root_hash),
    head.tree_size,
    fromHex(head.root_hash),
    proof.map((hash) => fromHex(hash, "proof", 32)),
  );
}

async function leavesOf(size: number, client: KmsClient, ports: CliPorts): Promise<Uint8Array[]> {
  const leaves: Uint8Array[] = [];
  while (leaves.length < size) {
    const query = { after: leaves.length, limit: Math.min(1000, size - leaves.length) };
    const page = dataOf(await client.GET("/v1/log/leaf-hashes", { params: { query } }));
    if (page.leaf_hashes.length === 0) throw wrong(`entry ${leaves.length + 1} is missing`);
    for (const hash of page.leaf_hashes) leaves.push(fromHex(hash, "leaf hash", 32));
    if (leaves.length % 10_000 === 0) ports.say(`${leaves.length} of ${size} entries`);
  }
  if (leaves.length > size) throw wrong("it has more leaves than were asked for");
  return leaves;
}

function wrong(what: string): AppError {
  return new AppError("crypto/invalid-signature", `The log does not hold: ${what}`);
}
