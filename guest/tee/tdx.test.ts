import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createTdxTee, type TsmFiles } from "./tdx.ts";

const ENTRY = "/sys/kernel/config/tsm/report/com.intel.dcap";
const RTMR3 = "/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384";

/** configfs-tsm as Documentation/ABI/testing/configfs-tsm-report describes it. */
function kernel(
  options: {
    busy?: number;
    quoteBytes?: number;
    stuck?: boolean;
    intruder?: boolean;
    provider?: string;
  } = {},
) {
  let generation = 7;
  let busy = options.busy ?? 0;
  const written = new Map<string, Uint8Array>();
  const waits: number[] = [];
  let locked = false;
  const files: TsmFiles = {
    makeDirectory: () => Promise.resolve(),
    readText(path) {
      assert.ok(locked, "read outside the lock");
      if (path.endsWith("/provider")) {
        return Promise.resolve(`${options.provider ?? "tdx_guest"}\n`);
      }
      return Promise.resolve(`${generation}\n`);
    },
    readBytes(path) {
      assert.equal(path, `${ENTRY}/outblob`);
      if (options.intruder) generation++;
      return Promise.resolve(new Uint8Array(options.quoteBytes ?? 5000));
    },
    writeBytes(path, data) {
      if (path === `${ENTRY}/inblob` && busy-- > 0) {
        return Promise.reject(Object.assign(new Error("busy"), { code: "EBUSY" }));
      }
      written.set(path, data);
      if (path === `${ENTRY}/inblob` && !options.stuck) generation++;
      return Promise.resolve();
    },
    async withLock(_path, action) {
      locked = true;
      try {
        return await action();
      } finally {
        locked = false;
      }
    },
  };
  const tee = createTdxTee({
    files,
    sleep: (ms) => Promise.resolve(void waits.push(ms)),
    parseBootLog: () => [],
  });
  return { tee, written, waits };
}

describe("TDX through the kernel's files", () => {
  test("writes report data once and reads the quote of that request", async () => {
    const { tee, written, waits } = kernel();
    const reportData = new Uint8Array(64).fill(3);
    assert.equal((await tee.quote(reportData)).length, 5000);
    assert.deepEqual(written.get(`${ENTRY}/inblob`), reportData);
    assert.deepEqual(waits, []);
  });

  test("tries a busy module three times, ten seconds apart", async () => {
    const { tee, waits } = kernel({ busy: 2 });
    await tee.quote(new Uint8Array(64));
    assert.deepEqual(waits, [10_000, 10_000]);
    await assert.rejects(kernel({ busy: 3 }).tee.quote(new Uint8Array(64)), { code: "guest/tee" });
  });

  test("refuses an answer that may belong to another request", async () => {
    for (const options of [{ stuck: true }, { intruder: true }]) {
      await assert.rejects(kernel(options).tee.quote(new Uint8Array(64)), /interfered/);
    }
  });

  test("refuses sizes no DCAP quote has, and another provider", async () => {
    for (const quoteBytes of [0, 1020, 8192, 8193]) {
      await assert.rejects(kernel({ quoteBytes }).tee.quote(new Uint8Array(64)), /bytes/);
    }
    await assert.rejects(
      kernel({ provider: "sev_guest" }).tee.quote(new Uint8Array(64)),
      /sev_guest/,
    );
  });

  test("extends RTMR3 with 48 bytes and nothing else", async () => {
    const { tee, written } = kernel();
    await tee.extend(new Uint8Array(48).fill(1));
    assert.deepEqual(written.get(RTMR3), new Uint8Array(48).fill(1));
    await assert.rejects(tee.extend(new Uint8Array(32)), TypeError);
  });
});
