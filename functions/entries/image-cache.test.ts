import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createAdminApp } from "#functions/kms/admin-app.ts";
import { fakePorts } from "#functions/kms/fakes.ts";
import { imageCacheDirectory } from "./image-cache.ts";

const A = "aa".repeat(32);
const B = "bb".repeat(32);

test("Admin.ClearImageCache removes what it names and nothing else", async () => {
  const root = await mkdtemp(join(tmpdir(), "image-cache-"));
  try {
    for (const hash of [A, B]) {
      await mkdir(join(root, "images", hash), { recursive: true });
      await mkdir(join(root, "measurements"), { recursive: true });
      await writeFile(join(root, "measurements", `${hash}.json`), "{}");
    }
    await writeFile(join(root, "kept"), "");
    const { ports } = await fakePorts();
    const app = createAdminApp({
      ...ports,
      auth: { token: "t", password: undefined },
      imageCache: imageCacheDirectory(root),
      peerFetch: () => () => Promise.reject(new TypeError("nobody to call")),
    });
    const clear = async (body: object, token = "t") => {
      const response = await app.request("/prpc/Admin.ClearImageCache?json", {
        method: "POST",
        headers: { authorization: `Bearer ${token}` },
        body: JSON.stringify(body),
      });
      return { status: response.status, text: await response.text() };
    };
    const left = async () => ({
      images: (await readdir(join(root, "images")).catch(() => [])).sort(),
      measurements: (await readdir(join(root, "measurements")).catch(() => [])).sort(),
    });
    const all = { images: [A, B], measurements: [`${A}.json`, `${B}.json`] };

    assert.equal((await clear({ image_hash: "all" }, "wrong")).status, 401);
    for (const key of ["..", "../kept", "aa/..", "ALL", "*", "a".repeat(129)]) {
      for (const body of [{ image_hash: key }, { image_hash: A, config_hash: key }]) {
        const { status, text } = await clear(body);
        assert.equal(status, 400, key);
        assert.match(text, /invalid cache key/);
      }
    }
    assert.deepEqual(await clear({}), { status: 200, text: "null" });
    assert.deepEqual(await left(), all, "nothing was removed yet");
    await clear({ image_hash: A.toUpperCase(), config_hash: B });
    assert.deepEqual(await left(), { images: [B], measurements: [`${A}.json`] });
    await clear({ image_hash: "all", config_hash: "all" });
    assert.deepEqual(await left(), { images: [], measurements: [] });
    assert.deepEqual(await readdir(root), ["kept"]);
  } finally {
    await rm(root, { recursive: true });
  }
});
