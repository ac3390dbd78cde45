import type { RouteDecision } from "#functions/gateway/route.ts";

/** How a decision reaches one or several instances. */
export interface Upstream {
  readonly backend: string;
  /** Undefined when the backend's servers have addresses of their own. */
  readonly address: string | undefined;
  readonly port: number | undefined;
}

/**
 * A decision as HAProxy reads it: `mode/backend/address/port/a:<app id>/i:<instance id>`, `-` for a
 * field that does not apply. Ids are hex and addresses dotted quads, so no field holds a slash.
 */
export function encodeRouteValue(decision: RouteDecision, upstream: Upstream): string {
  switch (decision.kind) {
    case "refused":
      return ["deny", decision.reason, "-", "-", "-", "-"].join("/");
    case "local":
      return ["tls", upstream.backend, "-", "-", `l:${decision.service}`, "-"].join("/");
    case "forward": {
      const mode = { terminate: "tls", passthrough: "raw", h2: "h2" }[decision.mode];
      const only = decision.candidates.length === 1 ? decision.candidates[0] : undefined;
      return [
        mode,
        upstream.backend,
        upstream.address ?? "-",
        upstream.port ?? "-",
        `a:${decision.appId}`,
        only === undefined ? "-" : `i:${only.instanceId}`,
      ].join("/");
    }
  }
}
