import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "#core/bytes/bytes.ts";
import { createAppCompose } from "#core/compose/create-app-compose.ts";
import { parseAppCompose } from "#core/compose/app-compose.ts";
import { replayRuntimeEvents } from "#core/event-log/replay.ts";
import {
  bootEvents,
  keyProviderEvent,
  type LaunchEvent,
  osImageHashEvent,
  storageFsEvent,
  SYSTEM_READY,
} from "./launch-events.ts";

const compose = parseAppCompose(createAppCompose({
  name: "events",
  dockerComposeFile: "services: {}",
}));

/** The inputs of spec/os.md 8.2. */
const launch = {
  compose,
  composeHash: new Uint8Array(32).fill(0x22),
  appId: new Uint8Array(20).fill(0x11),
  instanceId: new Uint8Array(20).fill(0x44),
};

function rtmr3(events: readonly LaunchEvent[]): string {
  return toHex(replayRuntimeEvents(events.map((event) => ({ ...event, version: 1 }))));
}

test("what is measured before keys are requested yields the reference's RTMR3", () => {
  assert.equal(
    rtmr3(bootEvents(launch)),
    "a0f43b1a836dc816e3da20597c87be58da5edd8b426bdb3cc642a54d39a142d8354ec14d065887c7ac629c587896f0d5",
  );
});

test("a whole boot without a key provider yields the reference's RTMR3", () => {
  const events = [
    ...bootEvents(launch),
    keyProviderEvent("none", ""),
    storageFsEvent("zfs"),
    SYSTEM_READY,
  ];
  assert.equal(
    rtmr3(events),
    "5d3453dab9a5b6b33883f96b3cd9a14a81a8242cca62e20b8b260b058d8c66d5ed8313625977b1ad4f56c871393e6476",
  );
});

test("each init script is an event of its own, in order", () => {
  const events = bootEvents({ ...launch, compose: { ...compose, initScripts: ["a", "b"] } });
  const hashes = events.filter(({ event }) => event === "init-script-hash");
  // sha256 of "a" and of "b".
  assert.deepEqual(hashes.map(({ payload }) => toHex(payload)), [
    "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
    "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",
  ]);
  assert.deepEqual(events.map(({ event }) => event), [
    "system-preparing",
    "app-id",
    "compose-hash",
    "init-script-hash",
    "init-script-hash",
    "gpu-policy-hash",
    "instance-id",
    "boot-mr-done",
  ]);
});

test("the key provider is named in compact JSON", () => {
  const { payload } = keyProviderEvent("kms", "aabb");
  assert.equal(new TextDecoder().decode(payload), '{"name":"kms","id":"aabb"}');
  assert.equal(osImageHashEvent(payload).event, "os-image-hash");
});
