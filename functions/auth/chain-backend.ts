import { sha256 } from "@noble/hashes/sha2.js";
import {
  BaseError,
  ContractFunctionRevertedError,
  createPublicClient,
  custom,
  type Hex,
  parseAbi,
  type PublicClient,
} from "viem";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { CircuitBreaker } from "#functions/circuit-breaker.ts";
import { normalizeHex } from "./allowlist.ts";
import type { AuthBackend, BackendDecision, BootRole } from "./backend.ts";
import type { BootInfo } from "./boot-info.ts";

/** One JSON-RPC endpoint of the chain. */
export interface ChainEndpoint {
  /** Shown in errors: its host, never its path, which may hold a key. */
  readonly name: string;
  /** Rejects when it does not answer in time. */
  readonly request: (call: { method: string; params?: unknown }) => Promise<unknown>;
  readonly breaker: CircuitBreaker;
}

export interface ChainBackendOptions {
  readonly endpoints: readonly ChainEndpoint[];
  /** So many must answer, and all that do must say the same. */
  readonly quorum: number;
  /** The KMS contract, 0x and 40 digits. */
  readonly contract: Hex;
  readonly chainId: number;
  readonly now: () => Date;
  /** The finalized block may be this old, milliseconds. */
  readonly maxLagMs: number;
  /** Seconds between now and the finalized block, each time one was read. */
  readonly observeLag?: (seconds: number) => void;
}

const ABI = parseAbi([
  "struct AppBootInfo { address appId; bytes32 composeHash; address instanceId; bytes32 deviceId; bytes32 mrAggregated; bytes32 mrSystem; bytes32 osImageHash; string tcbStatus; string[] advisoryIds; }",
  "function isAppAllowed(AppBootInfo bootInfo) view returns (bool isAllowed, string reason)",
  "function isKmsAllowed(AppBootInfo bootInfo) view returns (bool isAllowed, string reason)",
  "function gatewayAppId() view returns (string)",
  "function appImplementation() view returns (address)",
]);

/** App contracts are anybody's: how much of what they say is kept. */
const MAX_REASON = 256;

interface Block {
  readonly number: bigint;
  readonly hash: Hex;
  readonly timestamp: bigint;
}

/** An endpoint's word does not count: it is down, or says what others do not. */
const unavailable = (message: string, reason: string) =>
  new AppError("upstream/unavailable", message, { fields: { reason } });

/**
 * Asks the KMS contract. Every endpoint reads at one finalized block, which must be recent; they must
 * agree on its hash and on each answer. Fewer answers than the quorum, or two that differ, decide
 * nothing: it throws `upstream/unavailable` with a reason of its own.
 */
export function chainBackend(options: ChainBackendOptions): AuthBackend {
  const { endpoints, quorum, contract } = options;
  if (endpoints.length < quorum || quorum < 1) {
    throw new AppError("config/invalid", `${quorum} endpoints must agree, and there are fewer`);
  }
  const clients = endpoints.map((endpoint) => ({
    endpoint,
    client: createPublicClient({
      transport: custom({ request: (call) => endpoint.request(call) }, {
        retryCount: 1,
        retryDelay: 50,
      }),
    }),
  }));

  /** What the endpoints answer to the same question, at the newest block all of them finalized. */
  async function agreed<T>(ask: (client: PublicClient, block: bigint) => Promise<T>) {
    const heads = await answers(async (client) => {
      const [chainId, block] = await Promise.all([
        client.getChainId(),
        client.getBlock({ blockTag: "finalized" }),
      ]);
      if (chainId !== options.chainId) {
        throw unavailable(`The endpoint is of chain ${chainId}`, "auth/chain-wrong-chain");
      }
      return blockOf(block);
    });
    const number = heads.reduce(
      (least, { value }) => value.number < least ? value.number : least,
      heads[0]!.value.number,
    );
    const at = await answers(async (client) => {
      const block = blockOf(await client.getBlock({ blockNumber: number }));
      return { block, answer: await ask(client, number) };
    });
    const first = at[0]!.value;
    for (const { endpoint, value } of at) {
      if (stable(value) === stable(first)) continue;
      throw unavailable(
        `${endpoint.name} and ${at[0]!.endpoint.name} disagree at block ${number}`,
        "auth/chain-endpoints-disagree",
      );
    }
    const lagMs = options.now().getTime() - Number(first.block.timestamp) * 1000;
    options.observeLag?.(lagMs / 1000);
    if (lagMs > options.maxLagMs) {
      throw unavailable(`Block ${number} is ${Math.round(lagMs / 1000)} s old`, "auth/chain-stale");
    }
    return { block: first.block, answer: first.answer };
  }

  /** From at least as many endpoints as the quorum. */
  async function answers<T>(ask: (client: PublicClient) => Promise<T>) {
    const ended = await Promise.allSettled(
      clients.map(({ endpoint, client }) => endpoint.breaker.run(() => ask(client), isFailure)),
    );
    const good = ended.flatMap((result, i) =>
      result.status === "fulfilled" ? [{ endpoint: endpoints[i]!, value: result.value }] : []
    );
    if (good.length >= quorum) return good;
    const errors = ended.flatMap((result) => result.status === "rejected" ? [result.reason] : []);
    const reason = errors.map((error) => error instanceof AppError ? error.fields["reason"] : "")
      .find((reason) => reason === "auth/chain-wrong-chain") ?? "auth/chain-unavailable";
    throw new AppError("upstream/unavailable", `${good.length} of ${quorum} endpoints answer`, {
      cause: errors[0],
      fields: { reason },
    });
  }

  return {
    name: "chain",
    decide: async (role, boot) => {
      const request = bootTuple(boot);
      const { block, answer } = await agreed(async (client, blockNumber) => {
        const at = { address: contract, abi: ABI, blockNumber } as const;
        const gatewayAppId = await client.readContract({ ...at, functionName: "gatewayAppId" });
        return { gatewayAppId, said: await askContract(client, at, role, request) };
      });
      const [isAllowed, text] = answer.said;
      const decision: BackendDecision = {
        isAllowed,
        gatewayAppId: answer.gatewayAppId,
        reason: isAllowed ? "" : text || "denied by the contract",
        rule: `contract ${contract}`,
        block: { number: Number(block.number), hash: block.hash },
      };
      return isAllowed ? decision : { ...decision, remedy: remedyFor(role, text, boot) };
    },
    info: async () => {
      const { answer } = await agreed(async (client, blockNumber) => {
        const at = { address: contract, abi: ABI, blockNumber } as const;
        return {
          gatewayAppId: await client.readContract({ ...at, functionName: "gatewayAppId" }),
          appImplementation: await client.readContract({
            ...at,
            functionName: "appImplementation",
          }),
        };
      });
      return { ...answer, kmsContractAddr: contract, ethRpcUrl: "", chainId: options.chainId };
    },
  };
}

/** A contract that reverts denies. */
async function askContract(
  client: PublicClient,
  at: { readonly address: Hex; readonly abi: typeof ABI; readonly blockNumber: bigint },
  role: BootRole,
  boot: ReturnType<typeof bootTuple>,
): Promise<readonly [boolean, string]> {
  const functionName = role === "kms" ? "isKmsAllowed" : "isAppAllowed";
  try {
    const [isAllowed, reason] = await client.readContract({
      ...at,
      functionName,
      args: [boot],
    });
    return [isAllowed, reason.slice(0, MAX_REASON)];
  } catch (error) {
    if (!isRevert(error)) throw error;
    return [false, "App contract refused to answer"];
  }
}

function isRevert(error: unknown): boolean {
  return error instanceof BaseError &&
    error.walk((cause) => cause instanceof ContractFunctionRevertedError) !== null;
}

/** Whether an endpoint is down; a revert or another chain are answers. */
function isFailure(error: unknown): boolean {
  return !isRevert(error) && !(error instanceof AppError);
}

function blockOf(block: { number: bigint | null; hash: Hex | null; timestamp: bigint }): Block {
  if (block.number === null || block.hash === null) {
    throw unavailable("The endpoint answered a pending block", "auth/chain-unavailable");
  }
  return { number: block.number, hash: block.hash, timestamp: block.timestamp };
}

function stable(value: unknown): string {
  return JSON.stringify(value, (_, member) => typeof member === "bigint" ? `${member}n` : member);
}

/** The contract's tuple: values padded on the left, as the reference does (kms.md 7.5). */
function bootTuple(boot: BootInfo) {
  const padded = (hex: string, bytes: number): Hex =>
    `0x${normalizeHex(hex).padStart(2 * bytes, "0")}`;
  const device = normalizeHex(boot.deviceId);
  return {
    appId: padded(boot.appId, 20),
    composeHash: padded(boot.composeHash, 32),
    instanceId: padded(boot.instanceId, 20),
    // SEV-SNP's chip id does not fit: its hash is the device id that GetAttestationInfo shows.
    deviceId: padded(device.length > 64 ? toHex(sha256(fromHex(device))) : device, 32),
    mrAggregated: padded(boot.mrAggregated, 32),
    mrSystem: padded(boot.mrSystem, 32),
    osImageHash: padded(boot.osImageHash, 32),
    tcbStatus: boot.tcbStatus,
    advisoryIds: boot.advisoryIds,
  };
}

const REMEDIES: Readonly<Record<string, (boot: BootInfo) => string>> = {
  "tcb status is not up to date": () => "update the platform",
  "os image is not allowed": ({ osImageHash }) =>
    `addOsImageHash(0x${osImageHash}) on the KMS contract`,
  "aggregated mr not allowed": ({ mrAggregated }) =>
    `addKmsAggregatedMr(0x${mrAggregated}) on the KMS contract`,
  "app not registered": ({ appId }) => `registerApp(0x${appId}) on the KMS contract`,
  "app not deployed or invalid address": ({ appId }) => `deploy an app contract at 0x${appId}`,
  "compose hash not allowed": ({ composeHash }) =>
    `addComposeHash(0x${composeHash}) on the app contract`,
  "device not allowed": ({ deviceId }) => `addDevice(0x${deviceId}) on the app contract`,
  "kms is not allowed to boot on this device": ({ deviceId }) =>
    `addKmsDevice(0x${deviceId}) on the KMS contract`,
};

function remedyFor(role: BootRole, reason: string, boot: BootInfo): string {
  const plain = { ...boot };
  for (const key of ["osImageHash", "mrAggregated", "appId", "composeHash", "deviceId"] as const) {
    plain[key] = normalizeHex(boot[key]);
  }
  return REMEDIES[reason.toLowerCase()]?.(plain) ??
    `ask the owner of the ${role === "kms" ? "KMS" : "app"} contract`;
}
