import { equalBytes, fromHex, toHex, utf8 } from "#core/bytes/bytes.ts";
import type { RootKeys } from "#core/crypto/app-keys.ts";
import { type EpochManifest, signEpochManifest } from "#core/crypto/epoch-manifest.ts";
import { isK256Scalar, k256PublicKey, randomK256Scalar } from "#core/crypto/k256.ts";
import { encodeP256Pkcs8, p256Spki, parseP256Pkcs8, randomP256Scalar } from "#core/crypto/p256.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { EpochRow } from "#functions/db/kms-epochs.ts";
import { type DecisionSubject, recorded } from "./decision-log.ts";
import type { KeyFiles } from "./key-store.ts";
import type { DecidingPorts } from "./ports.ts";
import { denied } from "./reasons.ts";

/** One epoch of the root keys. Epoch 0 are the bootstrapped ones; its derivations are the reference's. */
export interface RootEpoch extends RootKeys {
  readonly epoch: number;
  readonly createdAtMs: number;
}

/** What the KMSs of a deployment share about epochs (functions/db/kms-epochs.ts). */
export interface EpochRegistryPort {
  readonly list: () => Promise<EpochRow[]>;
  readonly register: (row: EpochRow) => Promise<EpochRow>;
  readonly rewrapped: (appId: string, instanceId: string) => Promise<number>;
  readonly setRewrapped: (
    appId: string,
    instanceId: string,
    epoch: number,
    nowMs: number,
  ) => Promise<void>;
}

/** Epochs from 1 on, in one file, so that a write leaves all of the old or all of the new. */
export const EPOCHS_FILE = "root-epochs.json";
/** The next epoch on its way. */
const PENDING = "root-epoch-pending.json";
const SECRET_MODE = 0o600;
const MAX_EPOCHS = 1000;

/** The root keys of every epoch this KMS holds. */
export class RootEpochs {
  readonly #files: KeyFiles;
  readonly #registry: EpochRegistryPort;
  #epochs: readonly RootEpoch[];
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(files: KeyFiles, registry: EpochRegistryPort, epochs: readonly RootEpoch[]) {
    this.#files = files;
    this.#registry = registry;
    this.#epochs = epochs;
  }

  /**
   * `root`: the keys of epoch 0. Throws `config/invalid` when the database is that of a KMS with other
   * root keys, or a file does not hold what it should.
   */
  static async open(
    files: KeyFiles,
    registry: EpochRegistryPort,
    root: RootKeys,
    nowMs: number,
  ): Promise<RootEpochs> {
    const known = (await registry.list())[0];
    const first: RootEpoch = { epoch: 0, createdAtMs: known?.createdAtMs ?? nowMs, ...root };
    const raw = await files.read(EPOCHS_FILE);
    const later = raw === undefined ? [] : parseEpochs(raw);
    const epochs = [first, ...later];
    for (const epoch of epochs) requireSame(await registry.register(publicRow(epoch)), epoch);
    return new RootEpochs(files, registry, epochs);
  }

  /** From epoch 0 on, without gaps. */
  list(): readonly RootEpoch[] {
    return this.#epochs;
  }

  /** As `list`, after asking whether there are newer ones. Throws `kms/not-ready`, reason `kms/epoch-missing`. */
  async all(): Promise<readonly RootEpoch[]> {
    const registered = await this.#registry.list();
    if (registered.length > this.#epochs.length) {
      throw denied(
        "kms/epoch-missing",
        `This KMS lacks epoch ${registered.length - 1} of the root keys: ask another one`,
      );
    }
    return this.#epochs;
  }

  /** The signed list of all epochs. */
  async manifest(now: Date): Promise<EpochManifest> {
    const epochs = await this.all();
    return signEpochManifest({
      epochs: epochs.map((epoch) => {
        const row = publicRow(epoch);
        return {
          epoch: row.epoch,
          ca_public_key: row.caPublicKey,
          k256_public_key: row.k256PublicKey,
          created_at: new Date(row.createdAtMs).toISOString(),
        };
      }),
      issued_at: now.toISOString(),
    }, epochs.map(({ k256Key }) => k256Key));
  }

  /** Up to which epoch an instance has re-wrapped what it keeps. */
  async rewrapped(appId: string, instanceId: string): Promise<number> {
    if (this.#epochs.length === 1) return 0;
    return await this.#registry.rewrapped(appId, instanceId);
  }

  async setRewrapped(appId: string, instanceId: string, epoch: number, nowMs: number) {
    await this.#registry.setRewrapped(appId, instanceId, epoch, nowMs);
  }

  /**
   * Makes the next epoch, or finishes making it: what a crash interrupted goes on with the same keys.
   * It is used only after its public half is registered and its decision is in the log.
   */
  rotate(ports: Pick<DecidingPorts, "now" | "decisions" | "log">): Promise<RootEpoch> {
    return this.#inTurn(async () => {
      const call = { method: "Rotate", requestId: crypto.randomUUID() };
      const next = await recorded(ports, call, async (subject) => {
        const epoch = await this.#pending() ?? await this.#prepare(ports.now().getTime());
        const stored = await this.#registry.register(publicRow(epoch));
        if (!isSame(stored, epoch)) {
          await this.#files.remove(PENDING);
          throw new AppError(
            "resource/conflict",
            `Another KMS made epoch ${epoch.epoch} at the same time: fetch it from there`,
          );
        }
        subject.epoch = epoch.epoch;
        subject.note = `root keys of epoch ${epoch.epoch}, CA ${stored.caPublicKey.slice(-16)}`;
        return epoch;
      });
      await this.#activate([next]);
      return next;
    });
  }

  /** Finishes an interrupted `rotate`; undefined when there is none, or another KMS was faster. */
  async resume(
    ports: Pick<DecidingPorts, "now" | "decisions" | "log">,
  ): Promise<RootEpoch | undefined> {
    if (await this.#pending() === undefined) return undefined;
    try {
      return await this.rotate(ports);
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== "resource/conflict") throw error;
      ports.log.error("finishing a rotation", error);
      return undefined;
    }
  }

  /** Takes over epochs another KMS made. Throws `upstream/invalid` unless they are the registered ones. */
  adopt(received: readonly RootEpoch[], subject: DecisionSubject): Promise<void> {
    return this.#inTurn(async () => {
      const missing = received.slice(this.#epochs.length - 1);
      for (const [i, epoch] of received.entries()) {
        const own = this.#epochs[i + 1];
        const differs = own !== undefined && !isSame(publicRow(own), epoch);
        if (epoch.epoch !== i + 1 || differs) throw otherEpochs();
      }
      for (const epoch of missing) {
        if (!isSame(await this.#registry.register(publicRow(epoch)), epoch)) throw otherEpochs();
      }
      if (missing.length > 0) await this.#activate(missing);
      subject.epoch = this.#epochs.length - 1;
    });
  }

  async #pending(): Promise<RootEpoch | undefined> {
    const raw = await this.#files.read(PENDING);
    const pending = raw === undefined ? undefined : parseEpochs(raw)[0];
    if (pending === undefined) return undefined;
    if (pending.epoch === this.#epochs.length) return pending;
    await this.#files.remove(PENDING); // it was already taken into use
    return undefined;
  }

  async #prepare(nowMs: number): Promise<RootEpoch> {
    const epoch = (await this.all()).length; // refuses while another KMS is ahead
    if (epoch >= MAX_EPOCHS) throw new AppError("resource/exhausted", "Too many epochs");
    const made = {
      epoch,
      createdAtMs: nowMs,
      caKey: randomP256Scalar(),
      k256Key: randomK256Scalar(),
    };
    await this.#files.write(PENDING, encodeEpochs([made]), SECRET_MODE);
    return made;
  }

  async #activate(added: readonly RootEpoch[]): Promise<void> {
    const epochs = [...this.#epochs, ...added];
    await this.#files.write(EPOCHS_FILE, encodeEpochs(epochs.slice(1)), SECRET_MODE);
    await this.#files.remove(PENDING);
    this.#epochs = epochs;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {}); // the caller gets the failure, the next one its turn
    return done;
  }
}

/** Epochs from 1 on as another KMS gets them. */
export function encodeEpochs(epochs: readonly RootEpoch[]): Uint8Array {
  return utf8(JSON.stringify({
    epochs: epochs.map(({ epoch, createdAtMs, caKey, k256Key }) => ({
      epoch,
      created_at_ms: createdAtMs,
      ca_key: toHex(caKey),
      k256_key: toHex(k256Key),
    })),
  }));
}

/** Throws `input/malformed`. */
export function parseEpochs(bytes: Uint8Array): RootEpoch[] {
  const items = new JsonObject(parseStrictJson(bytes, EPOCHS_FILE), EPOCHS_FILE).array("epochs");
  return items.map((item) => {
    const json = new JsonObject(item, EPOCHS_FILE);
    const epoch = {
      epoch: json.unsigned("epoch", MAX_EPOCHS),
      createdAtMs: json.unsigned("created_at_ms", Number.MAX_SAFE_INTEGER),
      caKey: json.hex("ca_key", 32),
      k256Key: json.hex("k256_key", 32),
    };
    parseP256Pkcs8(encodeP256Pkcs8(epoch.caKey));
    if (!isK256Scalar(epoch.k256Key)) throw json.malformed("k256_key", "is no secp256k1 scalar");
    return epoch;
  });
}

function publicRow({ epoch, createdAtMs, caKey, k256Key }: RootEpoch): EpochRow {
  return {
    epoch,
    createdAtMs,
    caPublicKey: toHex(p256Spki(caKey)),
    k256PublicKey: toHex(k256PublicKey(k256Key)),
  };
}

function isSame(row: EpochRow, epoch: RootEpoch): boolean {
  return equalBytes(fromHex(row.caPublicKey), p256Spki(epoch.caKey)) &&
    equalBytes(fromHex(row.k256PublicKey), k256PublicKey(epoch.k256Key));
}

function requireSame(row: EpochRow, epoch: RootEpoch): void {
  if (isSame(row, epoch)) return;
  throw new AppError(
    "config/invalid",
    `The database is that of a KMS with other root keys (epoch ${epoch.epoch})`,
  );
}

function otherEpochs(): AppError {
  return new AppError("upstream/invalid", "The source sent other epochs than are registered");
}
