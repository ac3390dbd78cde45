import type { Hono } from "hono";
import { equalBytes, fromHex, toHex } from "#core/bytes/bytes.ts";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import type { ConnectionBindings } from "#core/http/bindings.ts";
import type { CertificateAppInfo } from "#core/ra-tls/app-info.ts";
import { parseCertificate } from "#core/ra-tls/certificate.ts";
import { type IssuerClaims, readIssuerClaims } from "#core/ra-tls/claims.ts";
import { Gateway } from "#core/rpc/gen/gateway_pb.ts";
import { type PrpcHandlers, prpcRoutes } from "#core/rpc/server.ts";
import { bestDomain } from "./domains.ts";
import type { GatewayNode, GatewayPorts, Instance } from "./ports.ts";
import { parsePortPolicy } from "./port-policy.ts";
import { registerCvm } from "./registration.ts";

/** Who calls, as the KMS that signed the client certificate says; undefined without a certificate. */
export interface GatewayCaller {
  readonly claims: IssuerClaims | undefined;
}

export type GatewayEnv = { Bindings: ConnectionBindings };

/** The RPC service CVMs and other gateways call (gateway.md 1.1). */
export function gatewayRoutes(ports: GatewayPorts): Hono<GatewayEnv> {
  return prpcRoutes<typeof Gateway, GatewayCaller, GatewayEnv>(Gateway, handlers(ports), {
    // Clients call the bare name or, once, `Tproxy.`; accepting our own service name harms nobody.
    trim: ["Tproxy.", "Gateway."],
    context: (c) => {
      const der = c.env?.peerCertificate;
      return { claims: der === undefined ? undefined : readIssuerClaims(parseCertificate(der)) };
    },
    observe: ({ method, error }) => {
      const outcome = error === undefined ? "ok" : "error";
      calls(ports).add(1, { method, outcome });
      if (error !== undefined && !(error instanceof AppError && error.status < 500)) {
        ports.logError(error);
      }
    },
  });
}

function handlers(ports: GatewayPorts): PrpcHandlers<typeof Gateway, GatewayCaller> {
  return {
    async registerCvm(request, { claims }) {
      const appInfo = requireAppInfo(claims);
      try {
        await ports.authorize(appInfo);
        const { clientPublicKey: publicKey, portPolicy: policy } = request;
        const portPolicy = policy && parsePortPolicy(policy);
        const instance = await registerCvm({ appInfo, publicKey, portPolicy }, ports);
        ports.logEvent({
          kind: "cvm.registered",
          reason: "",
          detail: instance.address,
          ...instance,
        });
        await ports.applyRows();
        return await registrationReply(instance, ports);
      } catch (error) {
        const event = {
          kind: "cvm.refused",
          appId: toHex(appInfo.appId),
          instanceId: toHex(appInfo.instanceId),
          reason: error instanceof AppError ? error.code : "internal",
          detail: errorChain(error),
        };
        ports.logEvent(event);
        await ports.rows.appendEvent(event);
        throw error;
      }
    },

    async info() {
      const domain = bestDomain(await ports.rows.domains(), ports.nodeId);
      return {
        baseDomain: domain?.domain ?? "",
        externalPort: domain?.port ?? 0,
        appAddressNsPrefix: ports.settings.appAddressPrefix,
        version: ports.version.version,
      };
    },

    /** No domain of this node is served with a certificate from ACME. */
    acmeInfo: () => ({ accountUri: "", quotedHistKeys: [] }),

    async getPeers(_request, { claims }) {
      if (!ports.settings.skipPeerCheck) requireGateway(claims, ports.appId);
      const nodes = await ports.rows.nodes();
      return {
        myId: ports.nodeId,
        myUrl: nodes.find((node) => node.id === ports.nodeId)?.url ?? "",
        peers: nodes.map(({ id, url }) => ({ id, url })),
      };
    },
  };
}

/** The KMS writes the app id twice, once as its own claim and once from the evidence. */
function requireAppInfo(claims: IssuerClaims | undefined): CertificateAppInfo {
  const appInfo = claims?.appInfo;
  if (appInfo === undefined) {
    throw new AppError(
      "auth/unauthenticated",
      "RegisterCvm needs a client certificate with app info, signed by the KMS",
    );
  }
  if (claims?.appId === undefined || !equalBytes(claims.appId, appInfo.appId)) {
    throw new AppError("auth/forbidden", "Certificate names two app ids, or none");
  }
  return appInfo;
}

async function registrationReply(instance: Instance, ports: GatewayPorts) {
  const [all, domains] = await Promise.all([ports.rows.nodes(), ports.rows.domains()]);
  const nodes = all.filter((node) => node.status === "up");
  const domain = bestDomain(domains, ports.nodeId);
  return {
    wg: {
      clientIp: instance.address,
      servers: nodes.map((node) => ({
        pk: node.wgPublicKey,
        ip: node.wgAddress,
        endpoint: node.wgEndpoint,
      })),
    },
    agent: {
      externalPort: domain?.port ?? 0,
      internalPort: ports.settings.agentPort,
      domain: domain?.domain ?? "",
      appAddressNsPrefix: ports.settings.appAddressPrefix,
    },
    gateways: nodes.map(nodeInfo),
  };
}

export function nodeInfo(node: GatewayNode) {
  return {
    id: node.id,
    uuid: fromHex(node.uuid, "uuid"),
    url: node.url,
    lastSeen: BigInt(node.lastSeen),
    wgPublicKey: node.wgPublicKey,
    wgIp: node.wgAddress,
    wgEndpoint: node.wgEndpoint,
  };
}

function requireGateway(claims: IssuerClaims | undefined, ownAppId: string): void {
  if (claims?.appId === undefined) {
    throw new AppError(
      "auth/unauthenticated",
      "GetPeers needs a client certificate with an app id",
    );
  }
  if (ownAppId === "" || toHex(claims.appId) !== ownAppId) {
    throw new AppError("auth/forbidden", "App id of the caller is not that of the gateway");
  }
}

function calls({ metrics }: GatewayPorts) {
  return metrics.counter({
    name: "dstack_gateway_rpc_calls_total",
    help: "RPC calls by method and outcome",
    labels: ["method", "outcome"],
  });
}
