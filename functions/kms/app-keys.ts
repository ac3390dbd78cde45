import { BoundedMap } from "#core/collections/bounded-map.ts";
import { type AppKeys, deriveAppKeys } from "#core/crypto/app-keys.ts";
import { AppError } from "#core/errors/app-error.ts";
import { authorize, type Authorized } from "./authorize.ts";
import type { Caller } from "./caller.ts";
import { recorded } from "./decision-log.ts";
import type { RootEpoch } from "./epochs.ts";
import type { KmsPorts } from "./ports.ts";
import { decisionReason, denied } from "./reasons.ts";
import type { SelfAuthorization } from "./self.ts";

export interface AppKeyRequest {
  /** As it stands in the log: the RPC or the path. */
  readonly method: string;
  readonly vmConfig: string;
  /** The caller says that it has re-wrapped everything to this epoch. */
  readonly rewrappedEpoch?: number | undefined;
}

export interface ReleasedKeys {
  readonly app: Authorized;
  /** Oldest first: those the instance still needs. */
  readonly epochs: readonly (AppKeys & { readonly epoch: number })[];
}

/**
 * Releases the keys of the app that the caller's evidence names: of every epoch from the one it last
 * re-wrapped to. What is returned stands in the log.
 */
export function releaseAppKeys(
  ports: KmsPorts,
  self: SelfAuthorization,
  caller: Caller,
  { method, vmConfig, rewrappedEpoch }: AppKeyRequest,
): Promise<ReleasedKeys> {
  return recorded(ports, { method, requestId: caller.requestId }, async (subject) => {
    await self.ensureAllowed();
    const evidence = caller.evidence();
    let app: Authorized;
    try {
      app = await authorize(
        ports,
        { ...evidence, vmConfig, role: "app", scope: "runtime" },
        subject,
      );
    } catch (cause) {
      if (!(cause instanceof AppError)) throw cause;
      throw denied(decisionReason(cause), "App not allowed", cause);
    }
    const { appId, instanceId } = app.boot;
    if (rewrappedEpoch !== undefined) {
      if (rewrappedEpoch >= ports.epochs.list().length) {
        throw new AppError("input/malformed", `There is no epoch ${rewrappedEpoch}`);
      }
      const now = ports.now().getTime();
      await ports.epochs.setRewrapped(appId, instanceId, rewrappedEpoch, now);
    }
    const from = await ports.epochs.rewrapped(appId, instanceId);
    const epochs = ports.epochs.list().slice(from).map((root) => ({
      epoch: root.epoch,
      ...derived(ports, root, app),
    }));
    if (epochs.length === 0) {
      throw denied("kms/epoch-missing", `This KMS lacks epoch ${from} of the root keys`);
    }
    subject.epoch = epochs.at(-1)!.epoch;
    return { app, epochs };
  });
}

/** Signatures are public and the same each time: those of the apps asked about last are kept. */
const MAX_SIGNATURES = 4096;
const signatures = new WeakMap<RootEpoch, BoundedMap<string, Uint8Array>>();

function derived(
  { publicPointOf }: KmsPorts,
  root: RootEpoch,
  { appId, instanceId, boot }: Authorized,
): AppKeys {
  let known = signatures.get(root);
  if (known === undefined) signatures.set(root, known = new BoundedMap(MAX_SIGNATURES));
  const keys = deriveAppKeys(root, appId, instanceId, {
    ...publicPointOf && { publicPointOf },
    knownSignature: known.get(boot.appId),
  });
  known.set(boot.appId, keys.k256Signature);
  return keys;
}
