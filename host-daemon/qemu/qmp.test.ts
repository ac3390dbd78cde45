import assert from "node:assert/strict";
import { test } from "node:test";
import { QmpClient, type QmpEvent, type TextStream } from "./qmp.ts";

const GREETING = '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 1, "major": 11}}}}\r\n';

/** A monitor that answers each command through `answer`; `say` sends text on its own. */
function monitor(answer: (command: { execute: string; id: string }) => string | undefined) {
  const sent: string[] = [];
  let text: (chunk: string) => void = () => {};
  let closed: (cause?: unknown) => void = () => {};
  const stream: TextStream = {
    send(line) {
      sent.push(line);
      const reply = answer(JSON.parse(line));
      if (reply !== undefined) queueMicrotask(() => text(reply));
    },
    start(handlers) {
      text = handlers.text;
      closed = handlers.closed;
      queueMicrotask(() => text(GREETING));
    },
    close() {},
  };
  return { stream, sent, say: (chunk: string) => text(chunk), hangUp: () => closed() };
}
const ok = (command: { id: string }, value: unknown = {}) =>
  JSON.stringify({ return: value, id: command.id }) + "\r\n";

test("negotiates, then matches answers to commands by id across split chunks", async () => {
  const fake = monitor((c) => c.execute === "qmp_capabilities" ? ok(c) : undefined);
  const qmp = await QmpClient.connect(fake.stream);
  const status = qmp.execute("query-status");
  const name = qmp.execute("query-name");
  fake.say('{"return":{"name":"vm"},"id":"3"}\r\n{"return":{"sta');
  fake.say('tus":"running"},"id":"2"}\r\n');
  assert.deepEqual(await status, { status: "running" });
  assert.deepEqual(await name, { name: "vm" });
  assert.equal(JSON.parse(fake.sent[0]!).execute, "qmp_capabilities");
});

test("passes events on and reports a command's error in QEMU's words", async () => {
  const fake = monitor((c) =>
    c.execute === "qmp_capabilities"
      ? ok(c)
      : JSON.stringify({ error: { class: "GenericError", desc: "no such device" }, id: c.id }) +
        "\n"
  );
  const events: QmpEvent[] = [];
  const qmp = await QmpClient.connect(fake.stream);
  qmp.onEvent = (event) => events.push(event);
  fake.say('{"timestamp": {}, "event": "SHUTDOWN", "data": {"guest": true}}\r\n');
  assert.deepEqual(events, [{ event: "SHUTDOWN", data: { guest: true } }]);
  await assert.rejects(qmp.execute("device_del"), { message: "QEMU: no such device" });
});

test("a closed monitor fails what is waiting and what comes later", async () => {
  const fake = monitor((c) => c.execute === "qmp_capabilities" ? ok(c) : undefined);
  const qmp = await QmpClient.connect(fake.stream);
  const waiting = qmp.execute("query-status");
  fake.hangUp();
  await assert.rejects(waiting, { code: "upstream/unavailable" });
  await qmp.closed;
  await assert.rejects(qmp.execute("quit"), { code: "upstream/unavailable" });
});

test("a peer that does not speak QMP, or is silent, is given up", async () => {
  const garbage = monitor(() => undefined);
  const connecting = QmpClient.connect(garbage.stream);
  garbage.say("HTTP/1.1 200 OK\r\n");
  await assert.rejects(connecting, { code: "upstream/invalid" });

  const silent = monitor(() => undefined);
  await assert.rejects(QmpClient.connect(silent.stream, 20), {
    code: "upstream/unavailable",
    message: "QEMU did not answer qmp_capabilities",
  });
});
