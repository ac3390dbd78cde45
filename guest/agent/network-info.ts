/** guest-agent.md 9.3. */
export interface NetworkInfo {
  readonly dnsServers: readonly string[];
  readonly gateways: readonly string[];
  readonly interfaces: readonly NetworkInterface[];
  /** What `wg` prints, or why it does not. */
  readonly wireGuard: string;
}

export interface NetworkInterface {
  readonly name: string;
  readonly addresses: readonly { readonly address: string; readonly prefix: number }[];
  readonly counters: {
    readonly rxBytes: number;
    readonly txBytes: number;
    readonly rxErrors: number;
    readonly txErrors: number;
  };
}

/** The interfaces of the VM itself; bridges and containers' ends are the app's business. */
export function isReportedInterface(name: string): boolean {
  return name === "dstack-wg0" || /^(enp|eth)/.test(name);
}

/** `nameserver` lines of resolv.conf(5). */
export function parseNameservers(resolvConf: string): string[] {
  return resolvConf.split("\n")
    .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1])
    .filter((address) => address !== undefined);
}

/** Gateways of /proc/net/route: little-endian hex, zero for none. */
export function parseGateways(route: string): string[] {
  const found = new Set<string>();
  for (const line of route.split("\n").slice(1)) {
    const hex = line.split(/\s+/)[2];
    if (hex === undefined || !/^[0-9A-F]{8}$/i.test(hex) || hex === "00000000") continue;
    const bytes = hex.match(/../g)!.map((byte) => parseInt(byte, 16)).reverse();
    found.add(bytes.join("."));
  }
  return [...found];
}
