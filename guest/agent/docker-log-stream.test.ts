import assert from "node:assert/strict";
import { test } from "node:test";
import { readLogChunks, stripAnsi } from "./docker-log-stream.ts";
import { InvalidFlagError, parseLogQuery } from "./log-query.ts";

/** Frames of the Docker Engine API, "Attach to a container": channel, three zeros, length, data. */
const FRAMES = Uint8Array.of(
  1,
  0,
  0,
  0,
  0,
  0,
  0,
  3,
  0x61,
  0x62,
  0x0a,
  2,
  0,
  0,
  0,
  0,
  0,
  0,
  2,
  0x63,
  0x0a,
  1,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
);

function inPieces(bytes: Uint8Array, size: number): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (let at = 0; at < bytes.length; at += size) {
        controller.enqueue(bytes.slice(at, at + size));
      }
      controller.close();
    },
  });
}

async function collect(stream: ReadableStream<Uint8Array>, framed: boolean) {
  const chunks: [string, string][] = [];
  for await (const { channel, data } of readLogChunks(stream, framed)) {
    chunks.push([channel, new TextDecoder().decode(data)]);
  }
  return chunks;
}

test("splits frames wherever the network cut them", async () => {
  for (let size = 1; size <= FRAMES.length; size++) {
    assert.deepEqual(await collect(inPieces(FRAMES, size), true), [
      ["stdout", "ab\n"],
      ["stderr", "c\n"],
      ["stdout", ""],
    ]);
  }
});

test("a terminal's output is one channel without frames", async () => {
  assert.deepEqual(await collect(inPieces(FRAMES.slice(8, 11), 9), false), [["console", "ab\n"]]);
});

test("refuses what Docker does not send", async () => {
  for (const bad of [[9, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 255, 0, 0, 0]]) {
    await assert.rejects(collect(inPieces(Uint8Array.from(bad), 8), true), {
      code: "upstream/invalid",
    });
  }
});

test("takes terminal sequences out", () => {
  assert.equal(stripAnsi("\x1b[1;31mred\x1b[0m \x1b]0;title\x07end"), "red end");
});

test("reads the query of the logs page", () => {
  const now = new Date(1_000_000_000);
  const parse = (text: string) => parseLogQuery(new URLSearchParams(text), now);
  const defaults = parse("");
  assert.deepEqual([defaults.tail, defaults.since, defaults.follow], ["1000", 0, false]);
  const all = parse("text&bare=true&timestamps=on&follow=yes&ansi=no&tail=all&since=5m&until=77");
  assert.deepEqual(all, {
    since: 999_700,
    until: 77,
    follow: true,
    text: true,
    bare: true,
    timestamps: true,
    ansi: false,
    tail: "all",
  });
  assert.equal(parse("tail=999999999").tail, "100000");
  for (const bad of ["since=x", "since=5w", "until=-1", "tail=-5", "tail=1e3"]) {
    assert.throws(() => parse(bad), { code: "input/malformed" }, bad);
  }
  assert.throws(() => parse("follow=maybe"), InvalidFlagError);
});
