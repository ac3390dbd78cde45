import { AppError } from "#core/errors/app-error.ts";

/** An IPv4 network in CIDR form; `address` keeps the host bits as written. */
export interface Ipv4Network {
  /** The address before the slash, host bits included. */
  readonly address: number;
  /** 0..32. */
  readonly prefixLength: number;
  /** First address: host bits zero. */
  readonly first: number;
  /** Last address: host bits one. */
  readonly last: number;
}

/** Dotted quad to an unsigned 32-bit number; no leading zeros, no shorthand. Throws `input/malformed`. */
export function parseIpv4(text: string, field = "IPv4 address"): number {
  const parts = text.split(".");
  if (parts.length !== 4) throw malformed(field, text);
  let address = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) throw malformed(field, text);
    address = address * 256 + Number(part);
  }
  return address;
}

export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join(".");
}

/** Parses `a.b.c.d/nn`. Throws `input/malformed`. */
export function parseIpv4Network(text: string, field = "IPv4 network"): Ipv4Network {
  const slash = text.indexOf("/");
  const length = text.slice(slash + 1);
  if (slash < 0 || !/^\d{1,2}$/.test(length) || Number(length) > 32) throw malformed(field, text);
  const address = parseIpv4(text.slice(0, slash), field);
  const prefixLength = Number(length);
  const size = 2 ** (32 - prefixLength);
  const first = Math.floor(address / size) * size;
  return { address, prefixLength, first, last: first + size - 1 };
}

export function contains(network: Ipv4Network, address: number): boolean {
  return network.first <= address && address <= network.last;
}

/** Whether `inner` lies wholly inside `outer`. */
export function containsNetwork(outer: Ipv4Network, inner: Ipv4Network): boolean {
  return outer.first <= inner.first && inner.last <= outer.last;
}

function malformed(field: string, text: string): AppError {
  return new AppError("input/malformed", `Cannot parse ${field}: ${JSON.stringify(text)}`);
}
