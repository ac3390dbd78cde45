import { AppError } from "#core/errors/app-error.ts";
import {
  contains,
  containsNetwork,
  formatIpv4,
  type Ipv4Network,
  parseIpv4,
  parseIpv4Network,
} from "./ipv4.ts";

/** The addresses one gateway node may hand to CVMs (gateway.md 2.3). */
export interface AddressPlan {
  /** The gateway's own tunnel address and the network of the whole cluster, `core.wg.ip`. */
  readonly own: Ipv4Network;
  readonly reserved: readonly Ipv4Network[];
  /** The part of the network this node allocates from, `core.wg.client_ip_range`. */
  readonly clients: Ipv4Network;
}

/**
 * Checks `core.wg.ip`, `reserved_net` and `client_ip_range` against one another: every reserved
 * network lies inside the network of `ip`, `ip` itself is reserved, clients come from the same
 * network. Throws `config/invalid`.
 */
export function parseAddressPlan(
  config: { ip: string; reservedNet: readonly string[]; clientIpRange: string },
): AddressPlan {
  const own = parseIpv4Network(config.ip, "core.wg.ip");
  const reserved = config.reservedNet.map((net) => parseIpv4Network(net, "core.wg.reserved_net"));
  const clients = parseIpv4Network(config.clientIpRange, "core.wg.client_ip_range");
  const stray = config.reservedNet.find((_, i) => !containsNetwork(own, reserved[i]!));
  if (stray !== undefined) {
    throw invalid(
      `core.wg.reserved_net ${stray} is not inside the network of core.wg.ip ${config.ip}`,
    );
  }
  if (!reserved.some((net) => contains(net, own.address))) {
    throw invalid(`core.wg.ip ${config.ip} is not inside any core.wg.reserved_net`);
  }
  if (!containsNetwork(own, clients)) {
    throw invalid(
      `core.wg.client_ip_range ${config.clientIpRange} is not inside the network of core.wg.ip ${config.ip}`,
    );
  }
  return { own, reserved, clients };
}

/**
 * The lowest free client address. `taken` holds every address of the cluster. The answer is a
 * proposal: the caller writes it under the unique index on the address column and asks again with
 * the fresh set when another writer was first. Throws `resource/exhausted`.
 */
export function nextFreeAddress(plan: AddressPlan, taken: ReadonlySet<string>): string {
  const { first, last } = hosts(plan.clients);
  for (let address = first; address <= last; address++) {
    const skipTo = blockedUntil(plan, address);
    if (skipTo !== undefined) {
      address = skipTo;
      continue;
    }
    const text = formatIpv4(address);
    if (!taken.has(text)) return text;
  }
  throw new AppError(
    "resource/exhausted",
    "No free address in the client address pool (core.wg.client_ip_range)",
  );
}

/** Whether a known CVM may keep `address` on this node, or must be given another. */
export function isClientAddress(plan: AddressPlan, address: string): boolean {
  const value = parseIpv4(address);
  const { first, last } = hosts(plan.clients);
  return first <= value && value <= last && blockedUntil(plan, value) === undefined;
}

/** Host addresses: without network and broadcast address, but all of a /31 and a /32. */
function hosts(network: Ipv4Network): { first: number; last: number } {
  return network.prefixLength >= 31
    ? network
    : { first: network.first + 1, last: network.last - 1 };
}

/** The last address of the block that makes `address` unusable; undefined when it is usable. */
function blockedUntil(plan: AddressPlan, address: number): number | undefined {
  if (address === plan.own.address) return address;
  if (plan.own.prefixLength < 31 && address === plan.own.last) return address;
  return plan.reserved.find((net) => contains(net, address))?.last;
}

function invalid(message: string): AppError {
  return new AppError("config/invalid", message);
}
