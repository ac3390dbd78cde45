import { AppError } from "#core/errors/app-error.ts";

/** Which ports of a CVM the ingress reaches (gateway.md 2.5); one entry a port. */
export interface PortPolicy {
  readonly ports: readonly PortAttributes[];
  /** true: only the listed ports (an empty list locks everything); false: every port. */
  readonly restrictMode: boolean;
}

export interface PortAttributes {
  /** 1..65535. */
  readonly port: number;
  /** Send a PROXY protocol v2 header to this port. */
  readonly proxyProtocol: boolean;
}

/** What the policy says of one port; `unknown` when no policy is known, which denies. */
export type PortVerdict = { readonly result: "allowed"; readonly proxyProtocol: boolean } | {
  readonly result: "denied" | "unknown";
};

/** Judges `port` by the policy in force: the operator's override, else what the CVM reported. */
export function judgePort(
  policies: { adminPolicy: PortPolicy | undefined; reportedPolicy: PortPolicy | undefined },
  port: number,
): PortVerdict {
  const policy = policies.adminPolicy ?? policies.reportedPolicy;
  if (policy === undefined) return { result: "unknown" };
  const listed = policy.ports.find((entry) => entry.port === port);
  if (listed === undefined && policy.restrictMode) return { result: "denied" };
  return { result: "allowed", proxyProtocol: listed?.proxyProtocol ?? false };
}

/** A policy from the wire: ports in range, the last entry of a port wins. Throws `input/malformed`. */
export function parsePortPolicy(
  wire: { ports: readonly { port: number; pp: boolean }[]; restrictMode: boolean },
): PortPolicy {
  const byPort = new Map<number, PortAttributes>();
  for (const { port, pp } of wire.ports) {
    if (!Number.isInteger(port) || port < 1 || port > 65535) {
      throw new AppError("input/malformed", `Invalid port ${port} in port_policy: not in 1..65535`);
    }
    byPort.set(port, { port, proxyProtocol: pp });
  }
  const ports = [...byPort.values()].sort((a, b) => a.port - b.port);
  return { ports, restrictMode: wire.restrictMode };
}
