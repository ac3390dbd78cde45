/** How the ingress treats a connection (gateway.md 3.3). */
export type IngressMode = "terminate" | "passthrough" | "h2";

/** `<id>[-[<port>][s|g]]` of a platform host name. */
export interface AppLabel {
  /** App id or instance id, lower case. */
  readonly id: string;
  readonly mode: IngressMode;
  /** 1..65535. */
  readonly port: number;
}

export type HostNameRefusal =
  | "no-host-name"
  | "unknown-domain"
  | "missing-label"
  | "nested-label"
  | "malformed-label";

export type HostName =
  | { readonly kind: "app"; readonly baseDomain: string; readonly label: AppLabel }
  | { readonly kind: "refused"; readonly reason: HostNameRefusal };

const DEFAULT_PORT: Record<IngressMode, number> = { terminate: 80, passthrough: 443, h2: 80 };

/**
 * Splits a server name into label and base domain. Names are compared without case (RFC 4343; the
 * reference compares bytes, so a client that sends capitals fails there). Of several base domains
 * that end the name the longest wins. The label must be exactly one level below it, as the wildcard
 * certificate covers no more.
 */
export function parseHostName(name: string, baseDomains: Iterable<string>): HostName {
  const host = (name.endsWith(".") ? name.slice(0, -1) : name).toLowerCase();
  if (host === "") return refused("no-host-name");
  let baseDomain = "";
  for (const candidate of baseDomains) {
    const matches = host === candidate || host.endsWith(`.${candidate}`);
    if (matches && candidate.length > baseDomain.length) baseDomain = candidate;
  }
  if (baseDomain === "") return refused("unknown-domain");
  if (host === baseDomain) return refused("missing-label");
  const text = host.slice(0, -baseDomain.length - 1);
  if (text.includes(".")) return refused("nested-label");
  const label = parseAppLabel(text);
  return label === undefined ? refused("malformed-label") : { kind: "app", baseDomain, label };
}

/** Parses a lower-case label; undefined when the grammar of gateway.md 3.3 does not allow it. */
export function parseAppLabel(text: string): AppLabel | undefined {
  const [id, suffix = "", ...more] = text.split("-");
  if (!id || more.length > 0) return undefined;
  const parts = /^(\d{0,5})([sg]?)$/.exec(suffix);
  if (parts === null) return undefined;
  const mode = parts[2] === "s" ? "passthrough" : parts[2] === "g" ? "h2" : "terminate";
  const port = parts[1] === "" ? DEFAULT_PORT[mode] : Number(parts[1]);
  return port < 1 || port > 65535 ? undefined : { id, mode, port };
}

function refused(reason: HostNameRefusal): HostName {
  return { kind: "refused", reason };
}
