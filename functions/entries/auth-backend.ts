import { readFile } from "node:fs/promises";
import { readFileIfExists, writeFileAtomic } from "#adapters/files.ts";
import { makeWebFetch } from "#adapters/web-fetch.ts";
import { fromHex, fromUtf8 } from "#core/bytes/bytes.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { Metrics } from "#core/http/metrics.ts";
import { readResponse } from "#core/http/response-body.ts";
import type { AuthBackend } from "#functions/auth/backend.ts";
import { chainBackend, type ChainEndpoint } from "#functions/auth/chain-backend.ts";
import { mockBackend } from "#functions/auth/mock-backend.ts";
import { simpleBackend, type SimpleBackendOptions } from "#functions/auth/simple-backend.ts";
import { CircuitBreaker } from "#functions/circuit-breaker.ts";
import type { AuthConfig } from "./auth-config.ts";

const MAX_ALLOWLIST_BYTES = 16 * 1024 * 1024;
const MAX_ANSWER_BYTES = 1024 * 1024;
const now = () => new Date();

/** The backend that auth.toml names. Throws `config/invalid`. */
export async function openAuthBackend(config: AuthConfig, metrics: Metrics): Promise<AuthBackend> {
  switch (config.backend) {
    case "simple":
      return simpleBackend(allowlistOptions(config));
    case "mock":
      return mockBackend(config.mock.gateway_app_id, await isDevImage());
    case "chain":
      return openChain(config, metrics);
  }
}

/** How the allowlist is read and checked. */
export function allowlistOptions(
  { allowlist, signers, sequence_file }: AuthConfig,
): SimpleBackendOptions {
  return {
    now,
    read: async () => {
      const content = await readFileIfExists(allowlist, MAX_ALLOWLIST_BYTES);
      if (content === undefined) throw new AppError("resource/not-found", `No file ${allowlist}`);
      return { allowlist: content, signature: await readFileIfExists(`${allowlist}.sig`, 4096) };
    },
    signers: signers.map((key) => fromHex(key, "signers", 32)),
    ...signers.length > 0 && {
      sequence: {
        read: async () => {
          const stored = await readFileIfExists(sequence_file, 32);
          if (stored === undefined) return 0;
          const sequence = Number(fromUtf8(stored, sequence_file).trim());
          if (Number.isSafeInteger(sequence) && sequence >= 0) return sequence;
          throw new AppError("config/invalid", `${sequence_file} holds no number`);
        },
        write: (sequence: number) => writeFileAtomic(sequence_file, `${sequence}\n`, 0o600),
      },
    },
  };
}

function openChain({ chain }: AuthConfig, metrics: Metrics): AuthBackend {
  if (chain === undefined) throw new AppError("config/invalid", 'backend = "chain" needs [chain]');
  const lag = metrics.gauge({
    name: "dstack_auth_chain_lag_seconds",
    help: "Age of the finalized block that decisions are read at",
  });
  return chainBackend({
    endpoints: chain.rpc_urls.map((url) => chainEndpoint(url, chain.timeout)),
    quorum: chain.quorum ?? chain.rpc_urls.length,
    contract: chain.contract as `0x${string}`,
    chainId: chain.chain_id,
    maxLagMs: chain.max_lag,
    now,
    observeLag: (seconds) => lag.set(seconds),
  });
}

function chainEndpoint(url: string, timeoutMs: number): ChainEndpoint {
  const fetch = makeWebFetch();
  const name = new URL(url).host;
  let id = 0;
  return {
    name,
    breaker: new CircuitBreaker({ name, now }),
    request: async ({ method, params }) => {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ jsonrpc: "2.0", id: ++id, method, params: params ?? [] }),
        signal: AbortSignal.timeout(timeoutMs),
      });
      const answer = parseStrictJson(
        await readResponse(response, MAX_ANSWER_BYTES, name),
        name,
      ) as {
        result?: unknown;
        error?: { code?: number; message?: string; data?: unknown };
      };
      if (answer.error === undefined) return answer.result;
      const { code, message, data } = answer.error;
      throw Object.assign(new Error(String(message)), { code, data });
    },
  };
}

/** The kernel's command line is measured: an image that takes simulated evidence is no production image. */
async function isDevImage(): Promise<boolean> {
  const cmdline = await readFile("/proc/cmdline", "utf8").catch(() => "");
  return cmdline.split(/\s+/).includes("dstack.tee=sim");
}
