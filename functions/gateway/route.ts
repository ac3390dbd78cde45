import { type HostNameRefusal, type IngressMode, parseHostName } from "./host-name.ts";
import { judgePort, type PortPolicy } from "./port-policy.ts";

/** What a route decision needs to know of one CVM. */
export interface RouteInstance {
  /** Lower-case hex. */
  readonly instanceId: string;
  /** Lower-case hex. */
  readonly appId: string;
  /** Its address inside the WireGuard network. */
  readonly address: string;
  readonly adminPolicy: PortPolicy | undefined;
  readonly reportedPolicy: PortPolicy | undefined;
  /** Unix seconds of the newest handshake any node saw; 0 never. */
  readonly lastHandshake: number;
}

/** The rows, indexed; both lookups take lower-case ids. */
export interface RouteRows {
  /** Domains with a certificate in force, lower case, without `*.`. */
  readonly baseDomains: Iterable<string>;
  readonly instance: (instanceId: string) => RouteInstance | undefined;
  readonly instancesOf: (appId: string) => readonly RouteInstance[];
}

export interface RouteSettings {
  /** Unix seconds. */
  readonly now: number;
  /** `core.proxy.connect_top_n`; 0 means one healthy instance at random. */
  readonly connectTopN: number;
  /** `core.proxy.timeouts.handshake_stale`, seconds. */
  readonly handshakeStaleSeconds: number;
}

export type RouteRefusal =
  | HostNameRefusal
  | "reserved-name"
  | "unknown-app"
  | "no-healthy-instance"
  | "port-denied"
  | "port-policy-unknown";

export interface RouteCandidate {
  readonly instanceId: string;
  readonly address: string;
}

/** Where a connection for one host name goes. */
export type RouteDecision =
  | {
    readonly kind: "forward";
    readonly mode: IngressMode;
    readonly port: number;
    readonly appId: string;
    /** Preferred first. */
    readonly candidates: readonly RouteCandidate[];
    /** Prepend a PROXY protocol header to the upstream connection. */
    readonly proxyProtocol: boolean;
  }
  | { readonly kind: "local"; readonly service: "gateway" | "health" }
  | { readonly kind: "refused"; readonly reason: RouteRefusal };

const LOCAL_PORT = 80;

/** Decides by rows alone where a connection for `hostName` goes (gateway.md 3.3, 3.4, 2.5). */
export function decideRoute(
  hostName: string,
  rows: RouteRows,
  settings: RouteSettings,
): RouteDecision {
  const name = parseHostName(hostName, rows.baseDomains);
  if (name.kind === "refused") return name;
  const { id, mode, port } = name.label;
  if (id === "gateway" || id === "health") {
    return mode === "terminate" && port === LOCAL_PORT
      ? { kind: "local", service: id }
      : refused("reserved-name");
  }
  const selected = selectInstances(id, rows, settings);
  if (!Array.isArray(selected)) return selected;
  return applyPolicy(selected, mode, port);
}

/**
 * An instance id names that instance, healthy or not. An app id names its instances with a recent
 * handshake, newest first, at most `connectTopN` of them; ties go by instance id so that equal rows
 * give equal decisions.
 */
function selectInstances(
  id: string,
  rows: RouteRows,
  { now, connectTopN, handshakeStaleSeconds }: RouteSettings,
): RouteInstance[] | RouteDecision {
  const exact = rows.instance(id);
  if (exact !== undefined) return [exact];
  const all = rows.instancesOf(id);
  if (all.length === 0) return refused("unknown-app");
  const healthy = all
    .filter((i) => i.lastHandshake > 0 && now - i.lastHandshake < handshakeStaleSeconds)
    .sort((a, b) => b.lastHandshake - a.lastHandshake || compare(a.instanceId, b.instanceId));
  if (healthy.length === 0) return refused("no-healthy-instance");
  return connectTopN === 0 ? healthy : healthy.slice(0, connectTopN);
}

/**
 * Drops instances whose policy does not allow the port. Those that remain share one PROXY flag: the
 * preferred instance decides, and an instance that wants it otherwise is left out.
 */
function applyPolicy(
  instances: readonly RouteInstance[],
  mode: IngressMode,
  port: number,
): RouteDecision {
  let proxyProtocol: boolean | undefined;
  let unknown = false;
  const candidates: RouteCandidate[] = [];
  for (const instance of instances) {
    const verdict = judgePort(instance, port);
    if (verdict.result === "unknown") unknown = true;
    if (verdict.result !== "allowed") continue;
    proxyProtocol ??= verdict.proxyProtocol;
    if (verdict.proxyProtocol !== proxyProtocol) continue;
    candidates.push({ instanceId: instance.instanceId, address: instance.address });
  }
  if (proxyProtocol === undefined) return refused(unknown ? "port-policy-unknown" : "port-denied");
  return { kind: "forward", mode, port, appId: instances[0]!.appId, candidates, proxyProtocol };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function refused(reason: RouteRefusal): RouteDecision {
  return { kind: "refused", reason };
}
