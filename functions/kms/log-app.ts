import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import { toHex } from "#core/bytes/bytes.ts";
import { consistencyProof, inclusionProof } from "#core/crypto/merkle-tree.ts";
import { signTreeHead } from "#core/crypto/tree-head.ts";
import { AppError } from "#core/errors/app-error.ts";
import { refuseInvalidInput } from "#core/http/problem.ts";
import type { KmsEnv } from "./caller.ts";
import type { KmsPorts } from "./ports.ts";

const MAX_LEAF_HASHES = 1000;

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const size = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const proofSchema = z.array(hash);
const json = (schema: z.ZodType, description: string) => ({
  description,
  content: { "application/json": { schema } },
});
const refused = { description: "No such entry, or input that does not fit" };

const headSchema = z.object({
  tree_size: z.int(),
  root_hash: hash.openapi({ description: "Merkle root of the entries, RFC 6962" }),
  chain_hash: hash.openapi({ description: "Of the last entry in the hash chain" }),
  timestamp: z.iso.datetime(),
  public_key: z.string().openapi({ description: "The KMS's secp256k1 root, compressed" }),
  signature: z.string(),
}).openapi("SignedTreeHead");

const headRoute = createRoute({
  method: "get",
  path: "/v1/log/head",
  operationId: "getLogHead",
  summary: "How long the release log is, and the root of its Merkle tree, signed",
  responses: { 200: json(headSchema, "Signed tree head") },
});

const inclusionRoute = createRoute({
  method: "get",
  path: "/v1/log/proof/inclusion",
  operationId: "getInclusionProof",
  summary: "The path from an entry to the root of the first tree_size entries",
  request: { query: z.object({ id: size.min(1), tree_size: size }) },
  responses: {
    200: json(
      z.object({ id: z.int(), tree_size: z.int(), leaf_hash: hash, proof: proofSchema }),
      "Proof",
    ),
    400: refused,
  },
});

const consistencyRoute = createRoute({
  method: "get",
  path: "/v1/log/proof/consistency",
  operationId: "getConsistencyProof",
  summary: "What shows that the log of `first` entries is the start of the log of `second`",
  request: { query: z.object({ first: size.min(1), second: size }) },
  responses: {
    200: json(z.object({ first: z.int(), second: z.int(), proof: proofSchema }), "Proof"),
    400: refused,
  },
});

const leavesRoute = createRoute({
  method: "get",
  path: "/v1/log/leaf-hashes",
  operationId: "getLeafHashes",
  summary: "Leaf hashes of the entries after `after`, in order",
  request: {
    query: z.object({
      after: size.default(0),
      limit: z.coerce.number().int().min(1).max(MAX_LEAF_HASHES).default(MAX_LEAF_HASHES),
    }),
  },
  responses: { 200: json(z.object({ leaf_hashes: proofSchema }), "Leaf hashes") },
});

/** Anyone may follow the log: hashes say nothing about who was given keys. */
export function logRoutes(ports: KmsPorts): OpenAPIHono<KmsEnv> {
  const { decisions, identity } = ports;
  const app = new OpenAPIHono<KmsEnv>({ defaultHook: refuseInvalidInput });

  app.openapi(headRoute, async (c) => {
    const { size, chainHash } = await decisions.currentHead();
    const head = {
      tree_size: size,
      root_hash: toHex(await decisions.root(size)),
      chain_hash: chainHash,
      timestamp: ports.now().toISOString(),
    };
    return c.json(signTreeHead(identity.k256Key, head), 200);
  });

  app.openapi(inclusionRoute, async (c) => {
    const { id, tree_size } = c.req.valid("query");
    await requireSize(ports, tree_size);
    const proof = await inclusionProof(id - 1, tree_size, decisions.subtree);
    const [leaf] = await decisions.leafHashes(id - 1, 1);
    return c.json({ id, tree_size, leaf_hash: toHex(leaf!), proof: proof.map(toHex) }, 200);
  });

  app.openapi(consistencyRoute, async (c) => {
    const { first, second } = c.req.valid("query");
    await requireSize(ports, second);
    const proof = await consistencyProof(first, second, decisions.subtree);
    return c.json({ first, second, proof: proof.map(toHex) }, 200);
  });

  app.openapi(leavesRoute, async (c) => {
    const { after, limit } = c.req.valid("query");
    const leaves = await decisions.leafHashes(after, limit);
    return c.json({ leaf_hashes: leaves.map(toHex) }, 200);
  });
  return app;
}

export const LOG_ROUTES = [headRoute, inclusionRoute, consistencyRoute, leavesRoute];

async function requireSize({ decisions }: KmsPorts, size: number): Promise<void> {
  const head = await decisions.currentHead();
  if (size > head.size) {
    throw new AppError("input/malformed", `The log has ${head.size} entries, not ${size}`);
  }
}
