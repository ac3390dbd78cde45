import { Hono } from "hono";
import { equalBytes, utf8 } from "#core/bytes/bytes.ts";
import { GuestApi } from "#core/rpc/gen/guest_api_pb.ts";
import { type PrpcHandlers, prpcRoutes } from "#core/rpc/server.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import type { Agent } from "./agent.ts";
import { appInfoMessage } from "./app-info-message.ts";
import { listContainers } from "./docker-client.ts";
import type { NetworkInfo } from "./network-info.ts";
import type { SystemInfo } from "./system-info.ts";

export interface GuestApiPorts {
  readonly docker: FetchLike;
  readonly systemInfo: () => Promise<SystemInfo>;
  readonly networkInfo: () => Promise<NetworkInfo>;
  /** Starts the power-off; resolves before the machine is down. */
  readonly powerOff: () => Promise<void>;
}

/**
 * GuestApi for the host (guest-agent.md section 7). Where there is no vsock it listens on TCP, which
 * the app's containers reach too: only who knows the VM's token, the host, is answered.
 */
export function guestApiApp(agent: Agent, ports: GuestApiPorts, token: string): Hono {
  const expected = utf8(`Bearer ${token}`);
  const app = new Hono();
  app.use(async (c, next) => {
    const given = utf8(c.req.header("authorization") ?? "");
    if (!equalBytes(given, expected)) return c.json({ error: "Not authorised" }, 401);
    await next();
  });
  app.route(
    "/api",
    prpcRoutes(GuestApi, guestApiHandlers(agent, ports), {
      trim: "GuestApi.",
      context: () => undefined,
    }),
  );
  app.notFound((c) => c.json({ error: `Not found: ${c.req.path}` }, 404));
  return app;
}

function guestApiHandlers(
  agent: Agent,
  ports: GuestApiPorts,
): PrpcHandlers<typeof GuestApi, undefined> {
  return {
    async info() {
      const info = await appInfoMessage(agent, { showTcbInfo: agent.compose.publicTcbinfo });
      return { ...info, version: agent.version.version };
    },

    async sysInfo() {
      const info = await ports.systemInfo();
      const [one, five, fifteen] = info.loadAverages;
      return {
        osName: info.osName,
        osVersion: info.osVersion,
        kernelVersion: info.kernelVersion,
        cpuModel: info.cpuModel,
        numCpus: info.numCpus,
        totalMemory: BigInt(info.memory.total),
        availableMemory: BigInt(info.memory.available),
        usedMemory: BigInt(info.memory.used),
        freeMemory: BigInt(info.memory.free),
        totalSwap: BigInt(info.swap.total),
        usedSwap: BigInt(info.swap.used),
        freeSwap: BigInt(info.swap.free),
        uptime: BigInt(info.uptimeSeconds),
        loadavgOne: one,
        loadavgFive: five,
        loadavgFifteen: fifteen,
        disks: info.disks.map((disk) => ({
          name: disk.name,
          mountPoint: disk.mountPoint,
          totalSize: BigInt(disk.totalBytes),
          freeSize: BigInt(disk.freeBytes),
        })),
      };
    },

    async networkInfo() {
      const { dnsServers, gateways, interfaces, wireGuard } = await ports.networkInfo();
      return {
        dnsServers: [...dnsServers],
        gateways: gateways.map((address) => ({ address })),
        interfaces: interfaces.map(({ name, addresses, counters }) => ({
          name,
          addresses: addresses.map((address) => ({ ...address })),
          rxBytes: BigInt(counters.rxBytes),
          txBytes: BigInt(counters.txBytes),
          rxErrors: BigInt(counters.rxErrors),
          txErrors: BigInt(counters.txErrors),
        })),
        wgInfo: wireGuard,
      };
    },

    async listContainers() {
      const containers = await listContainers(ports.docker);
      return {
        containers: containers.map((container) => ({
          ...container,
          names: [...container.names],
          created: BigInt(container.createdSeconds),
        })),
      };
    },

    async shutdown() {
      await ports.powerOff();
      return {};
    },
  };
}
