import { fromHex, fromUtf8, toHex } from "../bytes/bytes.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { AppError } from "../errors/app-error.ts";
import type { FetchLike } from "../http/fetch-like.ts";
import { readResponse } from "../http/response-body.ts";
import { reportData } from "./report-data.ts";

/** Where the guest agent of every app listens; the gateway reaches it by this port in the name. */
const AGENT_PORT = 8090;
const MAX_ANSWER_BYTES = 24 * 1024 * 1024;

/** The id an app's URL names: its first label up to the port. */
export function idInUrl(url: URL): string {
  return url.hostname.split(".")[0]!.split("-")[0]!.toLowerCase();
}

/** `https://<id>[-port].<base>` to the same app's guest agent. */
export function agentUrlOf(url: URL): URL {
  const [, ...base] = url.hostname.split(".");
  if (url.protocol !== "https:" || base.length === 0) {
    throw new AppError("input/malformed", `${url.href} is not the https URL of an app`);
  }
  const port = url.port === "" ? "" : `:${url.port}`;
  return new URL(`https://${idInUrl(url)}-${AGENT_PORT}.${base.join(".")}${port}/`);
}

export interface AppEvidence {
  /** Versioned attestation, as received. */
  readonly attestation: Uint8Array;
  /** What it must bind: `app-data` over our nonce. */
  readonly reportData: Uint8Array;
}

/** Asks the app for evidence over a fresh nonce, so that no recording can answer. */
export async function challengeApp(
  agentUrl: URL,
  nonce: Uint8Array,
  send: FetchLike,
): Promise<AppEvidence> {
  const url = new URL("/v1/attestation", agentUrl).href;
  const response = await send(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ nonce: toHex(nonce) }),
  });
  const body = fromUtf8(await readResponse(response, MAX_ANSWER_BYTES, url), "the app's answer");
  if (!response.ok) {
    throw new AppError(
      "upstream/invalid",
      `${url} answered ${response.status}: ${body.slice(0, 200)}`,
    );
  }
  const answer = parseStrictJson(body, "the app's answer", {
    maxSize: MAX_ANSWER_BYTES,
    maxDepth: 4,
  });
  const attestation = (answer as { attestation?: unknown } | null)?.attestation;
  if (typeof attestation !== "string") {
    throw new AppError("upstream/invalid", `${url} answered without an attestation`);
  }
  return {
    attestation: fromHex(attestation, "attestation"),
    reportData: reportData("app-data", nonce),
  };
}
