import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Buffer } from "node:buffer";
import { gzipSync } from "node:zlib";
import { toHex } from "#core/bytes/bytes.ts";
import { parseVmConfig } from "#core/measurement/vm-config.ts";
import { IMAGE_FILES, imageFolderFiles, imageHashOf } from "../tests/fixtures/image-folder.ts";
import { ImageCache, type ImageCacheOptions } from "./image-cache.ts";

const root = mkdtempSync(join(tmpdir(), "image-cache-"));
after(() => rmSync(root, { recursive: true }));

/** A ustar archive (POSIX.1-1988, 10.1.1); `kind` 2 is a symbolic link, 5 a directory. */
function tarGz(entries: Iterable<readonly [string, Uint8Array, string?]>): Uint8Array {
  const blocks: Uint8Array[] = [];
  for (const [name, content, kind = "0"] of entries) {
    const header = new Uint8Array(512);
    const put = (at: number, text: string) => header.set(new TextEncoder().encode(text), at);
    put(0, name);
    put(124, content.length.toString(8).padStart(11, "0"));
    put(148, "        ");
    put(156, kind);
    put(257, "ustar\0" + "00");
    const sum = header.reduce((total, byte) => total + byte, 0);
    put(148, `${sum.toString(8).padStart(6, "0")}\0 `);
    const padded = new Uint8Array(Math.ceil(content.length / 512) * 512);
    padded.set(content);
    blocks.push(header, padded);
  }
  blocks.push(new Uint8Array(1024));
  return new Uint8Array(gzipSync(Buffer.concat(blocks)));
}

const none = new Uint8Array(0);
const files = await imageFolderFiles();
const hash = toHex(imageHashOf(files));
const other = await imageFolderFiles({ ...IMAGE_FILES, initrd: new Uint8Array(6000) });
const otherHash = toHex(imageHashOf(other));
const archives = new Map([
  [hash, tarGz([["./", none, "5"], ...files, ["./rootfs.img", new Uint8Array(3000)]])],
  [otherHash, tarGz(other)],
]);

function configOf(osImageHash: string) {
  return parseVmConfig(JSON.stringify({
    os_image_hash: osImageHash,
    cpu_count: 2,
    memory_size: 2 ** 31,
    qemu_version: "10.0.0",
  }));
}

function cache(name: string, changes: Partial<ImageCacheOptions> = {}) {
  const asked: string[] = [];
  let minutes = 0;
  const made = new ImageCache({
    directory: join(root, name),
    downloadUrl: "https://images.test/mr_{OS_IMAGE_HASH}.tar.gz",
    timeoutMs: 10_000,
    maxBytes: 1e9,
    now: () => new Date(Date.UTC(2026, 0, 1, 0, minutes++)),
    logError: (what, error) => assert.fail(`${what}: ${error}`),
    fetch: (url) => {
      asked.push(String(url));
      const archive = archives.get(/mr_([0-9a-f]{64})/.exec(String(url))![1]!);
      return Promise.resolve(
        new Response(archive?.slice() ?? null, { status: archive ? 200 : 404 }),
      );
    },
    ...changes,
  });
  const kept = () => readdirSync(join(root, name, "images")).filter((one) => one !== "tmp");
  return { cache: made, asked, kept };
}

test("an image is downloaded once, kept without what nobody lists, and measured", async () => {
  const { cache: first, asked, kept } = cache("once");
  const [one, two] = await Promise.all([
    first.registersOf(configOf(hash), []),
    first.registersOf(configOf(hash), []),
  ]);
  assert.deepEqual(one, two);
  assert.equal(one!.mrTd.length, 48);
  assert.deepEqual(asked, [`https://images.test/mr_${hash}.tar.gz`]);
  assert.deepEqual(kept(), [hash]);
  assert.ok(!existsSync(join(root, "once/images", hash, "rootfs.img")));
  assert.deepEqual(readdirSync(join(root, "once/images/tmp")), []);
  const { cache: later, asked: again } = cache("once");
  assert.deepEqual(await later.registersOf(configOf(hash), []), one);
  assert.deepEqual(again, []);
});

test("what is not the image asked for is refused and not kept", async () => {
  const damaged = new Map(files).set("bzImage", new Uint8Array(9));
  const cases: [string, Uint8Array, string][] = [
    ["another image", archives.get(otherHash)!, "measurement/image-mismatch"],
    ["a damaged file", tarGz(damaged), "measurement/image-mismatch"],
    ["a link", tarGz([...files, ["link", none, "2"]]), "image/invalid"],
    ["a way out", tarGz([...files, ["../out", none]]), "image/invalid"],
    ["a nested file", tarGz([...files, ["a/b", none]]), "image/invalid"],
    ["a file twice", tarGz([...files, ...files]), "image/invalid"],
    ["half an archive", archives.get(hash)!.slice(0, 2000), "image/invalid"],
    ["no archive", new Uint8Array(100), "image/invalid"],
  ];
  for (const [what, archive, code] of cases) {
    const fetch = () => Promise.resolve(new Response(archive.slice()));
    const { cache: made, kept } = cache(what, { fetch });
    await assert.rejects(made.registersOf(configOf(hash), []), { code }, what);
    assert.deepEqual(kept(), [], what);
  }
  assert.ok(!existsSync(join(root, "out")));
});

test("a server without the image leaves nothing to compare, and is asked again", async () => {
  const errors: unknown[] = [];
  const logError = (_what: string, error: unknown) => void errors.push(error);
  const { cache: made, asked } = cache("missing", { logError });
  const missing = configOf("00".repeat(32));
  assert.equal(await made.registersOf(missing, []), undefined);
  assert.equal(await made.registersOf(missing, []), undefined);
  assert.deepEqual([asked.length, errors.length], [2, 2]);
});

test("images used least recently go when all together are too large", async () => {
  const { cache: made, kept } = cache("small", { maxBytes: 1 });
  await made.registersOf(configOf(hash), []);
  assert.deepEqual(kept(), [hash]);
  await made.registersOf(configOf(otherHash), []);
  assert.deepEqual(kept(), [otherHash]);
});

test("an image that was changed on disk is refused", async () => {
  await cache("changed").cache.registersOf(configOf(hash), []);
  writeFileSync(join(root, "changed/images", hash, "bzImage"), "other");
  await assert.rejects(cache("changed").cache.registersOf(configOf(hash), []), {
    code: "measurement/image-mismatch",
  });
});
