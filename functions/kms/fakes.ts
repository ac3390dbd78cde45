import type { Attestation } from "#core/attestation/attestation.ts";
import { ratlsReportData } from "#core/attestation/report-data.ts";
import { type Verdict, VERDICT_SCHEMA } from "#core/attestation/verdict.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { fromHex, utf8 } from "#core/bytes/bytes.ts";
import { p256Spki, randomP256Scalar } from "#core/crypto/p256.ts";
import { merkleRoot } from "#core/crypto/merkle-tree.ts";
import type { ReasonCode } from "#core/errors/refusal.ts";
import { REFUSAL_REASONS } from "#core/errors/refusal.ts";
import { noMetrics } from "#core/http/metrics.ts";
import { buildCertificate, selfIssuer } from "#core/ra-tls/certificate-builder.ts";
import {
  CHAIN_START,
  decisionLeafHash,
  decisionToJson,
  type KmsDecision,
  nextChainHash,
} from "#functions/db/kms-decisions.ts";
import type { EpochRow } from "#functions/db/kms-epochs.ts";
import type { BootAnswer } from "./auth-api.ts";
import type { BootInfo } from "./boot-info.ts";
import { type EpochRegistryPort, RootEpochs } from "./epochs.ts";
import { type KeyFiles, type KmsKeySet, loadIdentity, storeNewKeys } from "./key-store.ts";
import { Admission, RateLimiter } from "./limits.ts";
import type { AppraisalRequest, DecisionStore, KmsPolicy, KmsPorts } from "./ports.ts";

/** Fakes of the ports for tests: the keys are those of the known answers in kms.md 11.2. */

export const NOW = new Date("2026-06-01T12:00:00Z");
export const APP_ID = "11".repeat(20);
export const INSTANCE_ID = "33".repeat(20);
export const OS_IMAGE_HASH = "66".repeat(32);
export const GATEWAY_APP_ID = "99".repeat(20);

export const KEYS: KmsKeySet = {
  caKey: fromHex("f57527cea4ab7ffb49af99b158cdc0e3ec06398f528349ea236b7d2afe19cec1"),
  k256Key: new Uint8Array(32).fill(0x01),
  tempCaKey: new Uint8Array(32).fill(0x02),
  rpcKey: new Uint8Array(32).fill(0x03),
};

export const DEFAULT_POLICY: KmsPolicy = {
  enforceSelfAuthorization: false,
  sevSnpKeyRelease: false,
  awsNitroTpmKeyRelease: false,
  isDev: false,
  siteName: "",
};

export interface MemoryFiles extends KeyFiles {
  readonly contents: Map<string, Uint8Array>;
  readonly modes: Map<string, number>;
}

export function memoryFiles(): MemoryFiles {
  const contents = new Map<string, Uint8Array>();
  const modes = new Map<string, number>();
  return {
    contents,
    modes,
    read: (name) => Promise.resolve(contents.get(name)),
    write: (name, content, mode) => {
      contents.set(name, content);
      modes.set(name, mode);
      return Promise.resolve();
    },
    remove: (name) => {
      contents.delete(name);
      return Promise.resolve();
    },
  };
}

/** A TDX attestation nobody signed, bound to a key (DER SPKI). */
export function attestationFor(spki: Uint8Array, config = ""): Attestation {
  return {
    platform: { kind: "tdx", quote: utf8("not a quote"), eventLog: [] },
    stack: { kind: "dstack", reportData: ratlsReportData(spki), runtimeEvents: [], config },
  };
}

/** A client certificate; `bindTo` makes its attestation that of another key. */
export function clientCertificate(options: { bindTo?: Uint8Array; bare?: boolean } = {}) {
  const key = randomP256Scalar();
  const spki = p256Spki(key);
  const name = { commonName: "RA-TLS TEMP Cert" };
  return buildCertificate({
    subject: name,
    publicKey: spki,
    issuer: selfIssuer(name, key),
    notAfter: new Date("2030-01-01T00:00:00Z"),
    attestation: options.bare
      ? undefined
      : encodeAttestation(attestationFor(options.bindTo ?? spki)),
  });
}

export function verdictOf(changes: Partial<Verdict> = {}): Verdict {
  return {
    schema: VERDICT_SCHEMA,
    tee: "dstack-tdx",
    simulated: true,
    outcome: "accepted",
    reason: null,
    checks: [],
    identity: {
      appId: APP_ID,
      composeHash: "22".repeat(32),
      instanceId: INSTANCE_ID,
      deviceId: "44".repeat(32),
      osImageHash: OS_IMAGE_HASH,
      mrSystem: "77".repeat(32),
      mrAggregated: "88".repeat(32),
      keyProvider: null,
      initScriptHashes: [],
    },
    tcb: {
      status: "UpToDate",
      advisoryIds: [],
      platformStatus: "UpToDate",
      quotingEnclaveStatus: "UpToDate",
      levelDate: "2026-01-01T00:00:00Z",
      evaluationDataNumber: 1,
      fmspc: "000000000000",
      collateral: { validFrom: "2026-01-01T00:00:00Z", validUntil: "2027-01-01T00:00:00Z" },
    },
    measurements: {},
    reportData: "",
    trustAnchor: { name: "test root", simulated: true },
    evaluatedAt: "2026-06-01T12:00:00Z",
    evidenceDigest: "55".repeat(32),
    ...changes,
  };
}

export function refusedVerdict(code: ReasonCode, detail: string): Verdict {
  return verdictOf({
    outcome: "refused",
    reason: { code, check: REFUSAL_REASONS[code], detail },
  });
}

export function memoryRegistry(): EpochRegistryPort {
  const rows: EpochRow[] = [];
  const rewrapped = new Map<string, number>();
  const key = (appId: string, instanceId: string) => `${appId} ${instanceId}`;
  return {
    list: () => Promise.resolve([...rows]),
    register: (row) => Promise.resolve(rows[row.epoch] ??= row),
    rewrapped: (...ids) => Promise.resolve(rewrapped.get(key(...ids)) ?? 0),
    setRewrapped: (appId, instanceId, epoch) => {
      const before = rewrapped.get(key(appId, instanceId)) ?? 0;
      rewrapped.set(key(appId, instanceId), Math.max(before, epoch));
      return Promise.resolve();
    },
  };
}

/** A log over `rows`, with nothing to keep. */
function memoryLog(rows: KmsDecision[]): DecisionStore {
  const leaves = () => rows.map((row) => decisionLeafHash(decisionToJson(row)));
  const subtree = (start: number, end: number) =>
    Promise.resolve(merkleRoot(leaves().slice(start, end)));
  return {
    append: (row) => {
      rows.push({ ...row, id: rows.length + 1 });
      return Promise.resolve(rows.length);
    },
    list: () => Promise.resolve(rows.toReversed()),
    currentHead: () =>
      Promise.resolve({
        size: rows.length,
        chainHash: leaves().reduce(nextChainHash, CHAIN_START),
      }),
    leafHashes: (start, limit) => Promise.resolve(leaves().slice(start, start + limit)),
    subtree,
    root: (size) => subtree(0, size),
  };
}

/** Ports that allow everything, and what was asked of them. Change members to change the answers. */
export async function fakePorts(overrides: Partial<KmsPorts> = {}) {
  const files = memoryFiles();
  await storeNewKeys(files, { keys: KEYS, domain: "kms.test" });
  const identity = await loadIdentity(files, NOW);
  const appraisals: AppraisalRequest[] = [];
  const asked: { role: string; boot: BootInfo }[] = [];
  const rows: KmsDecision[] = [];
  const logged: KmsDecision[] = [];
  const errors: { what: string; error: unknown }[] = [];
  const answers: {
    verdict: () => Verdict;
    boot: () => BootAnswer;
  } = {
    verdict: () => verdictOf(),
    boot: () => ({ isAllowed: true, gatewayAppId: GATEWAY_APP_ID, reason: "" }),
  };
  const ports: KmsPorts = {
    now: () => NOW,
    identity,
    epochs: await RootEpochs.open(files, memoryRegistry(), identity, NOW.getTime()),
    bootstrapInfo: () => Promise.resolve(undefined),
    appraise: async (request) => {
      appraisals.push(request);
      return answers.verdict();
    },
    authApi: {
      authorize: async (role, boot) => {
        asked.push({ role, boot });
        return answers.boot();
      },
      info: () =>
        Promise.resolve({
          gatewayAppId: GATEWAY_APP_ID,
          kmsContractAddress: "0x01",
          chainId: 5n,
          appImplementation: "0x02",
          ethRpcUrl: null,
        }),
    },
    decisions: memoryLog(rows),
    log: {
      decision: (row) => logged.push(row),
      error: (what, error) => errors.push({ what, error }),
    },
    policy: DEFAULT_POLICY,
    limits: {
      perPeer: new RateLimiter({ perSecond: 1000, burst: 1e6, now: () => NOW }),
      perApp: new RateLimiter({ perSecond: 1000, burst: 1e6, now: () => NOW }),
      admission: new Admission(100, 100),
    },
    metrics: noMetrics,
    version: { version: "0.1.0", rev: "git:00112233445566778899" },
    ...overrides,
  };
  return { ports, files, answers, appraisals, asked, rows, logged, errors };
}
