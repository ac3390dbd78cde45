import { and, eq, ne, sql } from "drizzle-orm";
import type { LibSQLDatabase } from "drizzle-orm/libsql";
import type {
  BaseDomain,
  GatewayEvent,
  GatewayNode,
  GatewayRows,
  Instance,
  ServedCertificate,
} from "#functions/gateway/ports.ts";
import type * as schema from "./gateway-schema.ts";
import {
  gatewayCertificates,
  gatewayDomains,
  gatewayEvents,
  gatewayInstances,
  gatewayNodes,
} from "./gateway-schema.ts";

type InstanceRow = typeof gatewayInstances.$inferSelect;
type Database = LibSQLDatabase<typeof schema>;
type Transaction = Parameters<Parameters<Database["transaction"]>[0]>[0];

export interface StoredEvent extends GatewayEvent {
  readonly id: number;
  readonly atMs: number;
}

/** The gateway's rows in libSQL. */
export class GatewayStore implements GatewayRows {
  readonly #db: Database;
  readonly #nodeId: number;
  readonly #now: () => Date;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(db: Database, nodeId: number, now: () => Date) {
    this.#db = db;
    this.#nodeId = nodeId;
    this.#now = now;
  }

  instances = async (): Promise<readonly Instance[]> => {
    const rows = await this.#db.select().from(gatewayInstances)
      .orderBy(gatewayInstances.instanceId);
    return rows.map(instanceOf);
  };

  nodes = (): Promise<readonly GatewayNode[]> =>
    this.#db.select().from(gatewayNodes).orderBy(gatewayNodes.id);

  domains = async (): Promise<readonly BaseDomain[]> => {
    const rows = await this.#db.select().from(gatewayDomains).orderBy(gatewayDomains.domain);
    return rows.map(({ domain, port, nodeId, priority }) => ({
      domain,
      port,
      nodeId: nodeId ?? undefined,
      priority,
    }));
  };

  certificates = (): Promise<readonly ServedCertificate[]> =>
    this.#db.select().from(gatewayCertificates).orderBy(gatewayCertificates.domain);

  findInstance = async (instanceId: string): Promise<Instance | undefined> => {
    const [row] = await this.#db.select().from(gatewayInstances)
      .where(eq(gatewayInstances.instanceId, instanceId));
    return row === undefined ? undefined : instanceOf(row);
  };

  findInstanceByKey = async (publicKey: string): Promise<Instance | undefined> => {
    const [row] = await this.#db.select().from(gatewayInstances)
      .where(eq(gatewayInstances.publicKey, publicKey));
    return row === undefined ? undefined : instanceOf(row);
  };

  takenAddresses = async (): Promise<ReadonlySet<string>> => {
    const rows = await this.#db.select({ address: gatewayInstances.address })
      .from(gatewayInstances);
    return new Set(rows.map(({ address }) => address));
  };

  inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  };

  putInstance = (
    instance: Instance,
    expected: Instance | undefined,
    event: GatewayEvent,
  ): Promise<boolean> =>
    this.#write(async (tx) => {
      const { adminPolicy, lastHandshake, ...own } = instance;
      const values = { ...own, reportedPolicy: instance.reportedPolicy ?? null };
      const taken = await tx.select({ id: gatewayInstances.instanceId }).from(gatewayInstances)
        .where(and(
          ne(gatewayInstances.instanceId, instance.instanceId),
          sql`(${gatewayInstances.address} = ${instance.address}
            or ${gatewayInstances.publicKey} = ${instance.publicKey})`,
        ));
      if (taken.length > 0) return false;
      const written = expected === undefined
        ? await tx.insert(gatewayInstances)
          .values({ ...values, adminPolicy: adminPolicy ?? null, lastHandshake })
          .onConflictDoNothing()
          .returning({ id: gatewayInstances.instanceId })
        : await tx.update(gatewayInstances).set(
          // Handshakes of a former key say nothing of this one; those of the same key go on growing.
          expected.publicKey === instance.publicKey ? values : { ...values, lastHandshake },
        ).where(and(
          eq(gatewayInstances.instanceId, expected.instanceId),
          eq(gatewayInstances.appId, expected.appId),
          eq(gatewayInstances.address, expected.address),
          eq(gatewayInstances.publicKey, expected.publicKey),
          eq(gatewayInstances.composeHash, expected.composeHash),
          eq(gatewayInstances.registeredAt, expected.registeredAt),
        )).returning({ id: gatewayInstances.instanceId });
      if (written.length === 0) return false;
      await this.#append(tx, event);
      return true;
    });

  setAdminPolicy = (
    instanceId: string,
    policy: Instance["adminPolicy"],
    event: GatewayEvent,
  ): Promise<boolean> =>
    this.#write(async (tx) => {
      const written = await tx.update(gatewayInstances).set({ adminPolicy: policy ?? null })
        .where(eq(gatewayInstances.instanceId, instanceId))
        .returning({ id: gatewayInstances.instanceId });
      if (written.length === 0) return false;
      await this.#append(tx, event);
      return true;
    });

  setNodeStatus = (id: number, status: "up" | "down", event: GatewayEvent): Promise<void> =>
    this.#write(async (tx) => {
      await tx.update(gatewayNodes).set({ status }).where(eq(gatewayNodes.id, id));
      await this.#append(tx, event);
    });

  setNodeUrl = (id: number, url: string, event: GatewayEvent): Promise<void> =>
    this.#write(async (tx) => {
      await tx.update(gatewayNodes).set({ url }).where(eq(gatewayNodes.id, id));
      await this.#append(tx, event);
    });

  appendEvent = (event: GatewayEvent): Promise<void> =>
    this.#write((tx) => this.#append(tx, event));

  /**
   * Writes this node's own row. A node that was set down stays down across a restart, and one that
   * has a uuid keeps it.
   */
  putOwnNode(node: Omit<GatewayNode, "status" | "uuid">, freshUuid: string): Promise<GatewayNode> {
    return this.#write(async (tx) => {
      const { id, ...rest } = node;
      const [row] = await tx.insert(gatewayNodes).values({ ...node, uuid: freshUuid })
        .onConflictDoUpdate({ target: gatewayNodes.id, set: rest }).returning();
      await this.#append(tx, {
        kind: "node.started",
        appId: "",
        instanceId: "",
        reason: "",
        detail: JSON.stringify({ id }),
      });
      return row!;
    });
  }

  putDomain(domain: BaseDomain): Promise<void> {
    return this.#write(async (tx) => {
      const { domain: name, port, nodeId, priority } = domain;
      const values = { port, nodeId: nodeId ?? null, priority };
      await tx.insert(gatewayDomains)
        .values({ domain: name, ...values, createdAt: this.#seconds() })
        .onConflictDoUpdate({ target: gatewayDomains.domain, set: values });
    });
  }

  putCertificate(certificate: { domain: string; fingerprint: string; notAfter: number }): Promise<
    void
  > {
    return this.#write(async (tx) => {
      const { domain, ...facts } = certificate;
      const values = { ...facts, issuedBy: this.#nodeId, loadedAt: this.#seconds() };
      await tx.insert(gatewayCertificates).values({ domain, ...values })
        .onConflictDoUpdate({ target: gatewayCertificates.domain, set: values });
      await this.#append(tx, {
        kind: "certificate.loaded",
        appId: "",
        instanceId: "",
        reason: "",
        detail: JSON.stringify(certificate),
      });
    });
  }

  /** Newer handshakes than the rows have, by public key, in Unix seconds. */
  putHandshakes(handshakes: ReadonlyMap<string, number>): Promise<void> {
    return this.#write(async (tx) => {
      for (const [publicKey, at] of handshakes) {
        await tx.update(gatewayInstances).set({ lastHandshake: at }).where(
          and(
            eq(gatewayInstances.publicKey, publicKey),
            sql`${gatewayInstances.lastHandshake} < ${at}`,
          ),
        );
      }
    });
  }

  /** Removes a CVM that has not been heard of; its address is free again. */
  removeInstance(instance: Instance, reason: string): Promise<boolean> {
    return this.#write(async (tx) => {
      const removed = await tx.delete(gatewayInstances).where(and(
        eq(gatewayInstances.instanceId, instance.instanceId),
        eq(gatewayInstances.registeredAt, instance.registeredAt),
      )).returning({ id: gatewayInstances.instanceId });
      if (removed.length === 0) return false;
      const { appId, instanceId, address } = instance;
      const detail = JSON.stringify({ address });
      await this.#append(tx, { kind: "cvm.removed", appId, instanceId, reason, detail });
      return true;
    });
  }

  /** Newest first. */
  async events(limit: number): Promise<readonly StoredEvent[]> {
    return await this.#db.select().from(gatewayEvents)
      .orderBy(sql`${gatewayEvents.id} desc`).limit(limit);
  }

  async #append(tx: Transaction, event: GatewayEvent): Promise<void> {
    await tx.insert(gatewayEvents).values({
      ...event,
      atMs: this.#now().getTime(),
      nodeId: this.#nodeId,
    });
  }

  #seconds(): number {
    return Math.floor(this.#now().getTime() / 1000);
  }

  #write<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    return this.#db.transaction(work, { behavior: "immediate" });
  }
}

function instanceOf(row: InstanceRow): Instance {
  return {
    ...row,
    reportedPolicy: row.reportedPolicy ?? undefined,
    adminPolicy: row.adminPolicy ?? undefined,
  };
}
