import { noMetrics } from "#core/http/metrics.ts";
import { fakeHost } from "../vmm/fake-host.fixture.ts";
import { createApi } from "./app.ts";
import { CvmStatus } from "./cvm-status.ts";

/** The operators' interface over a fake host, with what it asked of guests. */
export async function fakeApi(
  settings: Record<string, unknown> = {},
  consolePage: () => Promise<Uint8Array | undefined> = async () => undefined,
) {
  const host = await fakeHost(settings);
  const errors: unknown[] = [];
  const agentCalls: string[] = [];
  const guestCalls: { url: string; authorization: string | undefined }[] = [];
  const now = () => new Date(host.clock.now);
  const app = createApi({
    config: host.config,
    version: { version: "0.1.0", rev: "git:0123" },
    vmm: host.vmm,
    inventory: host.inventory,
    images: host.images,
    status: new CvmStatus({
      config: host.config,
      launcher: host.launcher,
      imageVersions: async () => new Map([["dstack-dev-0.6.0", "0.6.0"]]),
      events: (ids) => host.store.eventsOf(ids),
      now,
    }),
    store: host.store,
    launcher: host.launcher,
    files: host.files,
    metrics: noMetrics,
    kms: undefined,
    fetchGuest: async (url, init) => {
      guestCalls.push({ url, authorization: init.headers["authorization"] });
      return new Response(JSON.stringify({ os_name: "Debian", num_cpus: 2 }));
    },
    fetchAgent: async (_entry, path) => {
      agentCalls.push(path);
      return new Response("line\n");
    },
    consolePage,
    logError: (error) => errors.push(error),
  });
  const rpc = async (method: string, body: unknown = {}) => {
    const answer = await app.request(`/prpc/${method}?json`, {
      method: "POST",
      body: JSON.stringify(body),
    });
    return {
      status: answer.status,
      code: answer.headers.get("x-error-code"),
      json: await answer.json(),
    };
  };
  return { host, app, rpc, agentCalls, guestCalls, errors };
}
