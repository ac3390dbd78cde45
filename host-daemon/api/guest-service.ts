import { AppError } from "#core/errors/app-error.ts";
import { type PrpcClient, prpcClient } from "#core/rpc/client.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { GuestApi, type ProxiedGuestApi } from "#core/rpc/gen/guest_api_pb.ts";
import type { PrpcHandlers } from "#core/rpc/server.ts";
import type { Entry, Inventory } from "../vmm/inventory.ts";

export interface GuestServicePorts {
  readonly inventory: Inventory;
  readonly fetchGuest: FetchLike;
}

const GUEST_TIMEOUT_MS = 10_000;

/** Calls one guest's own API through its loopback forward, proving that we are its host. */
export function guestClient(entry: Entry, fetch: FetchLike): PrpcClient<typeof GuestApi> {
  if (!entry.running || entry.run === undefined) {
    throw new AppError("cvm/state", `vm is not running: ${entry.cvm.id}`);
  }
  return prpcClient(GuestApi, {
    baseUrl: `http://127.0.0.1:${entry.run.guestApiPort}/api`,
    fetch: (url, init) => fetch(url, { signal: AbortSignal.timeout(GUEST_TIMEOUT_MS), ...init }),
    headers: { authorization: `Bearer ${entry.cvm.hostApiToken}` },
  });
}

/** `guest_api.ProxiedGuestApi` (spec/vmm.md section 5.2). */
export function guestHandlers(
  ports: GuestServicePorts,
): PrpcHandlers<typeof ProxiedGuestApi, void> {
  const guest = (id: string) => {
    const entry = ports.inventory.find(id);
    if (entry === undefined) throw new AppError("cvm/not-found", "vm not found");
    return guestClient(entry, ports.fetchGuest);
  };
  return {
    info: ({ id }) => guest(id).info(),
    sysInfo: ({ id }) => guest(id).sysInfo(),
    networkInfo: ({ id }) => guest(id).networkInfo(),
    listContainers: ({ id }) => guest(id).listContainers(),
    shutdown: ({ id }) => guest(id).shutdown(),
  };
}
