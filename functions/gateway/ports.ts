import type { Metrics } from "#core/http/metrics.ts";
import type { AppVersion } from "#core/http/operations.ts";
import type { CertificateAppInfo } from "#core/ra-tls/app-info.ts";
import type { AddressPlan } from "./allocation.ts";
import type { RouteDecision } from "./route.ts";
import type { PortPolicy } from "./port-policy.ts";

/** A registered CVM, as its row says. */
export interface Instance {
  /** Lower-case hex. */
  readonly instanceId: string;
  /** Lower-case hex. */
  readonly appId: string;
  readonly address: string;
  /** WireGuard, base64. */
  readonly publicKey: string;
  /** Unix seconds. */
  readonly registeredAt: number;
  readonly composeHash: string;
  readonly reportedPolicy: PortPolicy | undefined;
  readonly adminPolicy: PortPolicy | undefined;
  /** Unix seconds, 0 never; as last written to the row. */
  readonly lastHandshake: number;
}

export interface GatewayNode {
  readonly id: number;
  /** 32 hex digits. */
  readonly uuid: string;
  readonly url: string;
  readonly wgPublicKey: string;
  /** `a.b.c.d/nn`. */
  readonly wgAddress: string;
  readonly wgEndpoint: string;
  readonly status: "up" | "down";
  /** Unix seconds. */
  readonly lastSeen: number;
}

export interface BaseDomain {
  /** Lower case, without `*.`. */
  readonly domain: string;
  readonly port: number;
  readonly nodeId: number | undefined;
  readonly priority: number;
}

export interface ServedCertificate {
  readonly domain: string;
  /** Unix seconds. */
  readonly notAfter: number;
  readonly issuedBy: number;
  readonly loadedAt: number;
}

export interface GatewayEvent {
  readonly kind: string;
  readonly appId: string;
  readonly instanceId: string;
  /** Stable code; empty where nothing was refused. */
  readonly reason: string;
  readonly detail: string;
}

/** The rows. Every change is one transaction with the event that tells of it. */
export interface GatewayRows {
  readonly instances: () => Promise<readonly Instance[]>;
  readonly nodes: () => Promise<readonly GatewayNode[]>;
  readonly domains: () => Promise<readonly BaseDomain[]>;
  readonly certificates: () => Promise<readonly ServedCertificate[]>;
  /** The row of the instance and whatever else holds its key, for one registration. */
  readonly findInstance: (instanceId: string) => Promise<Instance | undefined>;
  readonly findInstanceByKey: (publicKey: string) => Promise<Instance | undefined>;
  readonly takenAddresses: () => Promise<ReadonlySet<string>>;
  /**
   * Runs registrations of this process one after another, so that they do not race for the same
   * address; those of other processes are met by putInstance.
   */
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>;
  /**
   * Adds the row, or replaces the one that is still as `expected`, except for the operator's policy.
   * False when another writer was first: someone has the address or the key, or the row has changed.
   */
  readonly putInstance: (
    row: Instance,
    expected: Instance | undefined,
    event: GatewayEvent,
  ) => Promise<boolean>;
  readonly setAdminPolicy: (
    instanceId: string,
    policy: PortPolicy | undefined,
    event: GatewayEvent,
  ) => Promise<boolean>;
  readonly setNodeStatus: (id: number, status: "up" | "down", event: GatewayEvent) => Promise<void>;
  readonly setNodeUrl: (id: number, url: string, event: GatewayEvent) => Promise<void>;
  readonly appendEvent: (event: GatewayEvent) => Promise<void>;
}

export interface GatewaySettings {
  /** `core.proxy.agent_port`. */
  readonly agentPort: number;
  /** `core.proxy.app_address_ns_prefix`. */
  readonly appAddressPrefix: string;
  /** `core.sync.bootnode`. */
  readonly bootnodeUrl: string;
  /** `core.debug.insecure_skip_attestation`: GetPeers answers anybody. */
  readonly skipPeerCheck: boolean;
  /** Accepted on the admin listener; none left refuses everybody. */
  readonly adminTokens: readonly string[];
  /** `core.admin.insecure_no_auth`. */
  readonly adminWithoutAuth: boolean;
}

export interface GatewayPorts {
  readonly rows: GatewayRows;
  /** This node's id. */
  readonly nodeId: number;
  /** Own app id, lower-case hex; "" where it is unknown. */
  readonly appId: string;
  readonly now: () => Date;
  readonly addressPlan: AddressPlan;
  /** Makes tunnel peers and cached routes follow the rows. A failure is logged and tried again. */
  readonly applyRows: () => Promise<void>;
  /** Unix seconds of the newest handshake by public key. Never fails; empty when unknown. */
  readonly handshakes: () => ReadonlyMap<string, number>;
  /** Live ingress connections by instance id. */
  readonly connections: () => Promise<ReadonlyMap<string, number>>;
  /** How the ingress decides a host name now. */
  readonly decide: (host: string) => RouteDecision;
  /** `core.auth`: throws `auth/forbidden` when the operator's webhook refuses the app. */
  readonly authorize: (appInfo: CertificateAppInfo) => Promise<void>;
  readonly version: AppVersion;
  readonly metrics: Metrics;
  /** What the service needs to work, by name. */
  readonly ready: () => Promise<Readonly<Record<string, boolean>>>;
  readonly settings: GatewaySettings;
  readonly logError: (error: unknown) => void;
  readonly logEvent: (event: GatewayEvent) => void;
}
