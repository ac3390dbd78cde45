import createClient from "openapi-fetch";
import type { components, paths } from "#openapi/dstackd.ts";

export type Cvm = components["schemas"]["Cvm"];
export type BootPhase = Cvm["phases"][number];

const TOKEN_KEY = "dstack-token";

/** From `/?token=…`, kept for this tab only and taken out of the address bar. */
function takeToken(): string | undefined {
  const url = new URL(location.href);
  const given = url.searchParams.get("token");
  if (given !== null) {
    sessionStorage.setItem(TOKEN_KEY, given);
    url.searchParams.delete("token");
    history.replaceState(null, "", url);
  }
  return sessionStorage.getItem(TOKEN_KEY) ?? undefined;
}

const token = takeToken();
const headers: Record<string, string> = token === undefined
  ? {}
  : { authorization: `Bearer ${token}` };
const client = createClient<paths>({ baseUrl: location.origin, headers });

export async function listCvms(): Promise<Cvm[]> {
  const { data, response } = await client.GET("/v1/cvms");
  if (data === undefined) throw new Error(refusal(response));
  return data.cvms;
}

export async function version(): Promise<string> {
  const { data } = await client.GET("/version");
  return data?.version ?? "";
}

export type Action = "StartVm" | "ShutdownVm" | "StopVm" | "RemoveVm";

export async function act(action: Action, id: string): Promise<void> {
  const { error, response } = await client.POST(`/prpc/${action}`, { body: { id } });
  if (!response.ok) throw new Error(error?.error ?? refusal(response));
}

/** Calls `changed` whenever something happened to a CVM; returns what ends it. */
export function followEvents(changed: () => void): () => void {
  const query = token === undefined ? "" : `?token=${encodeURIComponent(token)}`;
  const source = new EventSource(`/v1/events${query}`);
  source.onopen = changed;
  for (const name of EVENTS) source.addEventListener(name, changed);
  return () => source.close();
}

const EVENTS = [
  "boot.progress",
  "boot.error",
  "shutdown.progress",
  "instance.info",
  "vmm.start",
  "vmm.start.failed",
  "vmm.killed",
  "vmm.exited",
  "vmm.adopted",
  "vmm.updated",
];

/** The serial log as it grows, until `signal`. */
export async function followSerial(
  id: string,
  signal: AbortSignal,
  show: (text: string) => void,
): Promise<void> {
  const query = new URLSearchParams({ id, follow: "true", lines: "300" });
  const response = await fetch(`/logs?${query}`, { headers, signal });
  if (!response.ok || response.body === null) throw new Error(refusal(response));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    show(value);
  }
}

function refusal(response: Response): string {
  return response.status === 401
    ? "dstackd asks for its token: open this page as /?token=…"
    : `dstackd answered ${response.status}`;
}
