import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import { bodyLimit } from "hono/body-limit";
import { toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { refuseInvalidInput } from "#core/http/problem.ts";
import { releaseAppKeys } from "./app-keys.ts";
import { authorize } from "./authorize.ts";
import { type Caller, type KmsEnv, tlsCaller } from "./caller.ts";
import { recorded } from "./decision-log.ts";
import { encodeEpochs } from "./epochs.ts";
import type { KmsPorts } from "./ports.ts";
import { SelfAuthorization } from "./self.ts";

const MAX_BODY_BYTES = 1024 * 1024;
const MAX_VM_CONFIG = 512 * 1024;

const hex = z.string().regex(/^([0-9a-f]{2})*$/);
const json = <T extends z.ZodType>(schema: T, description: string) => ({
  description,
  content: { "application/json": { schema } },
});
const body = <T extends z.ZodType>(schema: T) => ({
  body: { required: true, content: { "application/json": { schema } } },
});
const denials = {
  400: { description: "Input that does not fit" },
  403: { description: "The keys are not for this caller; `reason` says which rule failed" },
  503: { description: "Nothing can be decided now; ask again or another KMS" },
};

export const manifestSchema = z.object({
  epochs: z.array(z.object({
    epoch: z.int(),
    ca_public_key: hex.openapi({ description: "DER SubjectPublicKeyInfo" }),
    k256_public_key: hex.openapi({ description: "33 bytes, compressed" }),
    created_at: z.iso.datetime(),
  })),
  issued_at: z.iso.datetime(),
  signatures: z.array(hex).openapi({ description: "By each epoch's secp256k1 root, 65 bytes" }),
}).openapi("EpochManifest");

const manifestRoute = createRoute({
  method: "get",
  path: "/v1/epochs",
  operationId: "getEpochs",
  summary: "The epochs of the root keys, signed by each of them",
  responses: { 200: json(manifestSchema, "Epoch manifest"), 503: denials[503] },
});

export const appKeysRequestSchema = z.strictObject({
  vm_config: z.string().max(MAX_VM_CONFIG).default(""),
  rewrapped_epoch: z.int().nonnegative().optional().openapi({
    description:
      "Everything this instance keeps is wrapped to this epoch: older keys are not needed",
  }),
});

export const appKeysSchema = z.object({
  ca_cert: z.string().openapi({ description: "PEM" }),
  gateway_app_id: z.string(),
  os_image_hash: hex,
  epochs: z.array(z.object({
    epoch: z.int(),
    disk_crypt_key: hex,
    env_crypt_key: hex,
    k256_key: hex,
    k256_signature: hex,
  })).openapi({ description: "Oldest first; the last one is for what is written from now on" }),
}).openapi("AppKeys");

const appKeysRoute = createRoute({
  method: "post",
  path: "/v1/app-keys",
  operationId: "getAppKeys",
  summary: "Release the keys of the attested app, of every epoch it needs",
  request: body(appKeysRequestSchema),
  responses: { 200: json(appKeysSchema, "Keys"), ...denials },
});

const kmsKeysRoute = createRoute({
  method: "post",
  path: "/v1/kms-keys",
  operationId: "getKmsKeys",
  summary: "Release the root keys of epochs after the first to another KMS",
  request: body(z.strictObject({ vm_config: z.string().max(MAX_VM_CONFIG).default("") })),
  responses: {
    200: json(
      z.object({
        epochs: z.array(z.object({
          epoch: z.int(),
          created_at_ms: z.int(),
          ca_key: hex,
          k256_key: hex,
        })),
      }),
      "Keys",
    ),
    ...denials,
  },
});

export const EPOCH_ROUTES = [manifestRoute, appKeysRoute, kmsKeysRoute];

/** What clients that know epochs ask; the caller's evidence is in its certificate, as for the RPCs. */
export function epochRoutes(ports: KmsPorts): OpenAPIHono<KmsEnv> {
  const self = new SelfAuthorization(ports);
  const app = new OpenAPIHono<KmsEnv>({ defaultHook: refuseInvalidInput });
  app.use(
    "/v1/*",
    bodyLimit({
      maxSize: MAX_BODY_BYTES,
      onError: () => {
        throw new AppError("input/too-large", `At most ${MAX_BODY_BYTES} bytes are allowed`);
      },
    }),
  );

  app.openapi(manifestRoute, async (c) => c.json(await ports.epochs.manifest(ports.now()), 200));

  app.openapi(appKeysRoute, async (c) => {
    const request = c.req.valid("json");
    return c.json(await appKeysAnswer(ports, self, tlsCaller(c.env), request), 200);
  });

  app.openapi(kmsKeysRoute, async (c) => {
    const { vm_config: vmConfig } = c.req.valid("json");
    const caller = tlsCaller(c.env);
    const call = { method: "GetKmsKeys", requestId: caller.requestId };
    const encoded = await recorded(ports, call, async (subject) => {
      await self.ensureAllowed();
      const request = { ...caller.evidence(), vmConfig, role: "kms", scope: "runtime" } as const;
      await authorize(ports, request, subject);
      const epochs = await ports.epochs.all();
      subject.epoch = epochs.length - 1;
      return encodeEpochs(epochs.slice(1));
    });
    return c.body(encoded.slice(), 200, { "content-type": "application/json" }) as never;
  });
  return app;
}

/** The answer of `POST /v1/app-keys`, whichever way the caller proved who it is. */
export async function appKeysAnswer(
  ports: KmsPorts,
  self: SelfAuthorization,
  caller: Caller,
  request: z.infer<typeof appKeysRequestSchema>,
): Promise<z.infer<typeof appKeysSchema>> {
  await ports.epochs.all(); // a KMS that lacks one sends its caller to another
  const { app, epochs } = await releaseAppKeys(ports, self, caller, {
    method: "GetAppKeys",
    vmConfig: request.vm_config,
    rewrappedEpoch: request.rewrapped_epoch,
  });
  return {
    ca_cert: ports.identity.rootCaPem,
    gateway_app_id: app.gatewayAppId,
    os_image_hash: app.boot.osImageHash,
    epochs: epochs.map(({ epoch, diskCryptKey, envCryptKey, k256Key, k256Signature }) => ({
      epoch,
      disk_crypt_key: toHex(diskCryptKey),
      env_crypt_key: toHex(envCryptKey),
      k256_key: toHex(k256Key),
      k256_signature: toHex(k256Signature),
    })),
  };
}
