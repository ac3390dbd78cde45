import { fromBase64, toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { CertificateAppInfo } from "#core/ra-tls/app-info.ts";
import { isClientAddress, nextFreeAddress } from "./allocation.ts";
import type { GatewayPorts, Instance } from "./ports.ts";
import type { PortPolicy } from "./port-policy.ts";

export interface RegistrationRequest {
  readonly appInfo: CertificateAppInfo;
  /** WireGuard, base64. */
  readonly publicKey: string;
  /** Undefined keeps what is known. */
  readonly portPolicy: PortPolicy | undefined;
}

type RegistrationPorts = Pick<GatewayPorts, "rows" | "nodeId" | "now" | "addressPlan">;

/** How often a registration starts over because another one was first. */
const MAX_ATTEMPTS = 16;

/**
 * Gives a CVM its address in the tunnel network, the same one each time it comes (gateway.md 2.1).
 * Nothing is written before everything is checked; who gets an address or a key is decided by the
 * database, and a loser looks again.
 */
export async function registerCvm(
  request: RegistrationRequest,
  ports: RegistrationPorts,
): Promise<Instance> {
  const identity = {
    appId: toHex(request.appInfo.appId),
    instanceId: toHex(request.appInfo.instanceId),
    composeHash: toHex(request.appInfo.composeHash),
  };
  if (identity.appId === "" || identity.instanceId === "") {
    throw new AppError("input/malformed", "Certificate names no app id or no instance id");
  }
  requireWireguardKey(request.publicKey);
  const own = (await ports.rows.nodes()).find((node) => node.id === ports.nodeId);
  if (own?.status === "down") {
    throw new AppError("resource/conflict", "This gateway node is marked as down");
  }
  return ports.rows.inTurn(async () => {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const instance = await tryRegister(request, identity, ports);
      if (instance !== undefined) return instance;
    }
    throw new AppError("resource/conflict", "Too many registrations at once, try again");
  });
}

async function tryRegister(
  request: RegistrationRequest,
  identity: { appId: string; instanceId: string; composeHash: string },
  { rows, now, addressPlan }: RegistrationPorts,
): Promise<Instance | undefined> {
  const { publicKey, portPolicy } = request;
  const holder = await rows.findInstanceByKey(publicKey);
  if (holder !== undefined && holder.instanceId !== identity.instanceId) {
    throw new AppError("resource/conflict", "WireGuard public key belongs to another instance");
  }
  const known = await rows.findInstance(identity.instanceId);
  if (known !== undefined && known.appId !== identity.appId) {
    throw new AppError("auth/forbidden", "Instance id is registered under another app id");
  }
  const keeps = known !== undefined && isClientAddress(addressPlan, known.address);
  const address = keeps ? known.address : nextFreeAddress(addressPlan, await rows.takenAddresses());
  const sameCompose = known?.composeHash === identity.composeHash;
  const seconds = Math.floor(now().getTime() / 1000);
  const row: Instance = {
    ...identity,
    address,
    publicKey,
    registeredAt: keeps && known.publicKey === publicKey ? known.registeredAt : seconds,
    reportedPolicy: portPolicy ?? (sameCompose ? known.reportedPolicy : undefined),
    adminPolicy: known?.adminPolicy,
    lastHandshake: known !== undefined && known.publicKey === publicKey ? known.lastHandshake : 0,
  };
  const stored = await rows.putInstance(row, known, {
    kind: known === undefined ? "cvm.registered" : "cvm.returned",
    appId: row.appId,
    instanceId: row.instanceId,
    reason: "",
    detail: JSON.stringify({ address, composeHash: row.composeHash }),
  });
  return stored ? row : undefined;
}

/** Standard base64 of exactly 32 bytes: it becomes a line of the WireGuard configuration. */
function requireWireguardKey(text: string): void {
  const key = fromBase64(text, "client_public_key");
  if (key.length !== 32) {
    throw new AppError("input/malformed", "Invalid client_public_key: not 32 bytes");
  }
}
