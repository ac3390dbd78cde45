import type { RouteDecision } from "#functions/gateway/route.ts";
import { type CertificatePorts, Certificates } from "./certificates.ts";
import { Haproxy, type HaproxyPorts } from "./haproxy.ts";
import { CONNECTION_TABLE, type DataPlaneSettings } from "./haproxy-config.ts";
import { parseConnectionTable, parseSlotSessions } from "./live-connections.ts";
import { RouteCache } from "./route-cache.ts";
import { UpstreamSlots } from "./upstream-slots.ts";

export interface DataPlanePorts extends HaproxyPorts, CertificatePorts {
  readonly makeDirectory: (path: string, mode: number) => Promise<void>;
  readonly decide: (host: string) => RouteDecision;
  /** Answers HAProxy's questions until disposed. */
  readonly serveRoutes: (
    path: string,
    answer: (host: string) => Promise<string>,
  ) => Promise<AsyncDisposable>;
  readonly onRefused: (host: string, reason: string) => void;
  readonly log: (
    level: "info" | "warning" | "error",
    message: string,
    fields: Readonly<Record<string, unknown>>,
  ) => void;
}

/** HAProxy with what it is told: routes, candidates, certificates. */
export class DataPlane {
  readonly certificates: Certificates;
  readonly routes: RouteCache;
  readonly haproxy: Haproxy;
  readonly #settings: DataPlaneSettings;
  readonly #ports: DataPlanePorts;
  #questions: AsyncDisposable | undefined;

  constructor(binary: string, settings: DataPlaneSettings, ports: DataPlanePorts) {
    this.#settings = settings;
    this.#ports = ports;
    this.certificates = new Certificates(settings.paths, ports);
    const onError = (error: unknown) => ports.log("error", "data plane", { error });
    this.haproxy = new Haproxy(binary, settings, ports, {
      launching: async (start) => {
        const pid = await this.routes.restarting(start);
        ports.log("info", "HAProxy serves", { pid });
      },
      onAdopted: async (pid) => {
        await this.routes.adopted();
        ports.log("info", "HAProxy adopted", { pid });
      },
      onLost: (pid) => ports.log("error", "HAProxy died and is started again", { pid }),
      onError,
    });
    this.routes = new RouteCache({
      decide: ports.decide,
      runtime: this.haproxy.runtime,
      routeMap: settings.paths.routeMap,
      slots: new UpstreamSlots(settings.slots),
      now: () => ports.now().getTime(),
      onRefused: ports.onRefused,
      onError,
    });
  }

  /** Serves from `certificates` with the rows as they are. */
  async start(
    certificates: readonly { domain: string; chainPem: string; keyPem: string }[],
  ): Promise<void> {
    const { paths } = this.#settings;
    await this.#ports.makeDirectory(paths.certificates, 0o700);
    for (const { domain, chainPem, keyPem } of certificates) {
      await this.certificates.store(domain, chainPem, keyPem);
    }
    await this.certificates.writeList();
    this.#questions = await this.#ports.serveRoutes(
      paths.routeSocket,
      (host) => this.routes.answer(host),
    );
    await this.haproxy.start();
    // An adopted process may serve older certificates than those just stored.
    for (const { domain, chainPem, keyPem } of certificates) {
      await this.certificates.publish(domain, chainPem, keyPem, this.haproxy.runtime);
    }
  }

  async installCertificate(domain: string, chainPem: string, keyPem: string): Promise<void> {
    await this.certificates.store(domain, chainPem, keyPem);
    await this.certificates.publish(domain, chainPem, keyPem, this.haproxy.runtime);
    await this.routes.refresh();
  }

  /** Live connections by instance id, those without any left out. */
  async connections(
    instances: readonly { readonly instanceId: string; readonly address: string }[],
  ): Promise<ReadonlyMap<string, number>> {
    const { runtime } = this.haproxy;
    const direct = parseConnectionTable(await runtime.query(`show table ${CONNECTION_TABLE}`));
    // Servers only (type 4) of all proxies.
    const shared = parseSlotSessions(await runtime.query("show stat -1 4 -1"));
    const counts = new Map<string, number>();
    for (const { instanceId, address } of instances) {
      const count = (direct.get(`i:${instanceId}`) ?? 0) + (shared.get(address) ?? 0);
      if (count > 0) counts.set(instanceId, count);
    }
    return counts;
  }

  /** Ends the control plane's part; HAProxy goes on with what it knows. */
  async detach(): Promise<void> {
    this.haproxy.detach();
    await this.#questions?.[Symbol.asyncDispose]();
  }

  async stop(): Promise<void> {
    await this.haproxy.stop();
    await this.#questions?.[Symbol.asyncDispose]();
  }
}
