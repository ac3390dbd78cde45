import type { BaseDomain } from "./ports.ts";

/**
 * The domain this node names to its CVMs (gateway.md 6.6): highest priority; of equals one not bound
 * to a node; of those the last in alphabetical order.
 */
export function bestDomain(
  domains: readonly BaseDomain[],
  nodeId: number,
): BaseDomain | undefined {
  let best: BaseDomain | undefined;
  for (const domain of domains) {
    if (domain.nodeId !== undefined && domain.nodeId !== nodeId) continue;
    if (best === undefined || rank(domain, best) > 0) best = domain;
  }
  return best;
}

function rank(a: BaseDomain, b: BaseDomain): number {
  return a.priority - b.priority ||
    Number(a.nodeId === undefined) - Number(b.nodeId === undefined) ||
    (a.domain > b.domain ? 1 : -1);
}

/**
 * A domain name as operators type it: spaces, a trailing dot, `*.` and capitals fall away; undefined
 * when what is left is no host name (letters, digits, inner hyphens; labels 1..63, 253 in all).
 */
export function normalizeDomain(text: string): string | undefined {
  const name = text.trim().replace(/\.+$/, "").replace(/^\*\./, "").toLowerCase();
  const valid = name.length > 0 && name.length <= 253 &&
    name.split(".").every((label) => /^(?!-)[a-z0-9-]{1,63}(?<!-)$/.test(label));
  return valid ? name : undefined;
}
