import { AppError } from "#core/errors/app-error.ts";
import { GatewayAdmin } from "#core/rpc/gen/gateway_pb.ts";
import type { PrpcHandlers } from "#core/rpc/server.ts";
import { bestDomain, normalizeDomain } from "./domains.ts";
import type { BaseDomain, GatewayPorts, Instance, ServedCertificate } from "./ports.ts";
import { parsePortPolicy, type PortPolicy } from "./port-policy.ts";
import { nodeInfo } from "./service.ts";

/** A handshake this recent makes a CVM count as online (gateway.md 1.2). */
const ONLINE_SECONDS = 300;

/** Methods served; the others of the service are unknown here. */
export const ADMIN_METHODS = [
  "Status",
  "GetInfo",
  "GetMeta",
  "SetNodeUrl",
  "SetNodeStatus",
  "GetInstanceHandshakes",
  "GetGlobalConnections",
  "GetNodeStatuses",
  "ListZtDomains",
  "GetZtDomain",
  "SetInstancePortPolicy",
  "ClearInstancePortPolicy",
  "GetInstancePortPolicy",
] as const;

/** The operator's service (gateway.md 1.2). */
export function adminHandlers(ports: GatewayPorts): PrpcHandlers<typeof GatewayAdmin, void> {
  const { rows } = ports;
  const hostInfo = async (instance: Instance, connections: ReadonlyMap<string, number>) => ({
    instanceId: instance.instanceId,
    ip: instance.address,
    appId: instance.appId,
    baseDomain: bestDomain(await rows.domains(), ports.nodeId)?.domain ?? "",
    latestHandshake: BigInt(newestHandshake(instance, ports)),
    numConnections: BigInt(connections.get(instance.instanceId) ?? 0),
  });
  const requireInstance = async (instanceId: string) => {
    const instance = await rows.findInstance(instanceId);
    if (instance === undefined) {
      throw new AppError("resource/not-found", `Instance not found: ${instanceId.slice(0, 80)}`);
    }
    return instance;
  };
  const changePolicy = async (instanceId: string, policy: PortPolicy | undefined) => {
    const { appId } = await requireInstance(instanceId);
    const kind = policy === undefined ? "policy.cleared" : "policy.set";
    const detail = policy === undefined ? "" : JSON.stringify(policy);
    const event = { kind, appId, instanceId, reason: "", detail };
    await rows.setAdminPolicy(instanceId, policy, event);
    ports.logEvent(event);
    await ports.applyRows();
    return {};
  };
  return {
    async status() {
      const [nodes, instances, connections] = await Promise.all([
        rows.nodes(),
        rows.instances(),
        ports.connections(),
      ]);
      const own = nodes.find((node) => node.id === ports.nodeId);
      return {
        id: ports.nodeId,
        url: own?.url ?? "",
        uuid: own === undefined ? new Uint8Array() : nodeInfo(own).uuid,
        bootnodeUrl: ports.settings.bootnodeUrl,
        numConnections: BigInt(total(connections)),
        hosts: await Promise.all(instances.map((instance) => hostInfo(instance, connections))),
        nodes: nodes.map(nodeInfo),
        accel: { ktlsMode: "off", spliceMode: "auto" },
      };
    },
    async getInfo({ id }) {
      const instance = await rows.findInstance(id.toLowerCase());
      if (instance === undefined) return { found: false };
      return { found: true, info: await hostInfo(instance, await ports.connections()) };
    },
    async getMeta() {
      const instances = await rows.instances();
      const now = Math.floor(ports.now().getTime() / 1000);
      const online = instances.filter((instance) => {
        const at = ports.handshakes().get(instance.publicKey) ?? 0;
        return at > 0 && now - at < ONLINE_SECONDS;
      });
      return { registered: instances.length, online: online.length };
    },
    async setNodeUrl({ id, url }) {
      await rows.setNodeUrl(id, requireNodeUrl(url), nodeEvent("node.url", id, url));
      return {};
    },
    async setNodeStatus({ id, status }) {
      if (status !== "up" && status !== "down") {
        throw new AppError("input/malformed", "status must be up or down");
      }
      await rows.setNodeStatus(id, status, nodeEvent("node.status", id, status));
      return {};
    },
    async getInstanceHandshakes({ instanceId }) {
      const instance = await requireInstance(instanceId);
      const at = newestHandshake(instance, ports);
      const entry = { observerNodeId: ports.nodeId, timestamp: BigInt(at) };
      return { handshakes: at === 0 ? [] : [entry] };
    },
    async getGlobalConnections() {
      const connections = BigInt(total(await ports.connections()));
      return { totalConnections: connections, nodeConnections: { [ports.nodeId]: connections } };
    },
    async getNodeStatuses() {
      const nodes = await rows.nodes();
      return { statuses: nodes.map(({ id, status }) => ({ nodeId: id, status })) };
    },
    async listZtDomains() {
      const [domains, certificates] = await Promise.all([rows.domains(), rows.certificates()]);
      return { domains: domains.map((domain) => domainInfo(domain, certificates, ports)) };
    },
    async getZtDomain({ domain: text }) {
      const name = normalizeDomain(text);
      const domain = (await rows.domains()).find((domain) => domain.domain === name);
      if (domain === undefined) {
        throw new AppError("resource/not-found", `Domain not found: ${text.slice(0, 253)}`);
      }
      return domainInfo(domain, await rows.certificates(), ports);
    },
    setInstancePortPolicy({ instanceId, policy }) {
      if (policy === undefined) throw new AppError("input/malformed", "policy is required");
      return changePolicy(instanceId, parsePortPolicy(policy));
    },
    clearInstancePortPolicy: ({ instanceId }) => changePolicy(instanceId, undefined),
    async getInstancePortPolicy({ instanceId }) {
      const { adminPolicy, reportedPolicy } = await requireInstance(instanceId);
      const effective = adminPolicy ?? reportedPolicy;
      const source = adminPolicy !== undefined ? "admin" : effective ? "instance" : "none";
      return {
        source,
        ...effective && { effective: wirePolicy(effective) },
        ...reportedPolicy && { instanceReported: wirePolicy(reportedPolicy) },
        ...adminPolicy && { adminOverride: wirePolicy(adminPolicy) },
      };
    },
  };
}

/** Unix seconds of the newest handshake the rows or this node's tunnel know of; 0 never. */
export function newestHandshake(
  instance: Instance,
  ports: Pick<GatewayPorts, "handshakes">,
): number {
  return Math.max(instance.lastHandshake, ports.handshakes().get(instance.publicKey) ?? 0);
}

function domainInfo(
  { domain, port, nodeId, priority }: BaseDomain,
  certificates: readonly ServedCertificate[],
  ports: GatewayPorts,
) {
  const served = certificates.find((certificate) => certificate.domain === domain);
  const probe = ports.decide(`health.${domain}`);
  return {
    config: { domain, port, priority, ...nodeId !== undefined && { node: nodeId } },
    certStatus: {
      hasCert: served !== undefined,
      notAfter: BigInt(served?.notAfter ?? 0),
      issuedBy: served?.issuedBy ?? 0,
      issuedAt: BigInt(served?.loadedAt ?? 0),
      loadedInMemory: probe.kind === "local",
    },
  };
}

function wirePolicy(policy: PortPolicy) {
  const ports = policy.ports.map(({ port, proxyProtocol }) => ({ port, pp: proxyProtocol }));
  return { ports, restrictMode: policy.restrictMode };
}

function nodeEvent(kind: string, id: number, value: string) {
  return { kind, appId: "", instanceId: "", reason: "", detail: JSON.stringify({ id, value }) };
}

function requireNodeUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const web = url?.protocol === "https:" || url?.protocol === "http:";
  if (url === undefined || !web || url.hostname === "" || url.username || url.password) {
    throw new AppError("input/malformed", "url must be http or https, with a host and no user");
  }
  return text;
}

function total(connections: ReadonlyMap<string, number>): number {
  return [...connections.values()].reduce((sum, count) => sum + count, 0);
}
