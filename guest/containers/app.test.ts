import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { utf8 } from "#core/bytes/bytes.ts";
import { type AppCompose, parseAppCompose } from "#core/compose/app-compose.ts";
import { createAppCompose } from "#core/compose/create-app-compose.ts";
import { type AppPorts, startApp, stopApp } from "./app.ts";
import { failureSummary, isTransientFailure } from "./compose-output.ts";

const compose = parseAppCompose(createAppCompose({ name: "a", dockerComposeFile: "services: {}" }));

/** What docker compose 2.26 says when a registry is down. */
const REGISTRY_DOWN = [
  " web Pulling ",
  ' web Error Get "http://10.0.2.2:5000/v2/": dial tcp 10.0.2.2:5000: connect: connection refused',
  'Error response from daemon: Get "http://10.0.2.2:5000/v2/": dial tcp 10.0.2.2:5000: connect: connection refused',
];
const BAD_FILE = [
  "service web has neither an image nor a build context specified: invalid compose project",
];

interface Attempt {
  readonly code: number;
  readonly lines: readonly string[];
}

function machine(attempts: readonly Attempt[], app: Partial<AppCompose> = {}) {
  const notified: [string, string][] = [];
  const ran: { argv: readonly string[]; env: Readonly<Record<string, string>> }[] = [];
  const waits: number[] = [];
  const asked: string[] = [];
  const left = [...attempts];
  const written = new Map<string, string>();
  const ports: AppPorts = {
    files: {
      read: (path) =>
        Promise.resolve(utf8(path.endsWith("pre-launch-env") ? "A=1\0B=x\ny=z\0" : "")),
      write: (path, data) => Promise.resolve(void written.set(path, String(data))),
      makeDirectory: () => Promise.resolve(),
      exists: () => Promise.resolve(true),
      list: () => Promise.resolve([]),
      remove: () => Promise.resolve(),
      symlink: () => Promise.resolve(),
    },
    log: () => {},
    sleep: (ms) => Promise.resolve(void waits.push(ms)),
    runLines(argv, { env }, onLine) {
      ran.push({ argv, env });
      const attempt = left.shift() ?? { code: 0, lines: [] };
      attempt.lines.forEach(onLine);
      return Promise.resolve(attempt.code);
    },
    notifier: {
      notify: (event, payload) => void notified.push([event, payload]),
      flush: () => Promise.resolve(),
    },
    docker: (url, { method }) => {
      asked.push(`${method} ${decodeURIComponent(new URL(url).href)}`);
      return Promise.resolve(new Response("{}"));
    },
    allElse: () => Promise.resolve(void notified.push(["else", "the rest"])),
  };
  const options = { dir: "/dstack", compose: { ...compose, ...app }, env: { PATH: "/bin" } };
  return { options, ports, notified, ran, waits, written, asked };
}

describe("starting the app", () => {
  test("tells pulling from starting, then is done and prunes", async () => {
    const lines = [" web Pulling ", " web Pulled ", " Container dstack-web-1  Creating"];
    const { options, ports, notified, ran, asked } = machine([{ code: 0, lines }]);
    await startApp(options, ports);
    assert.deepEqual(notified.map(([, payload]) => payload), [
      "starting containers",
      "pulling images",
      "starting containers",
      "the rest",
      "done",
    ]);
    // deno-fmt-ignore
    assert.deepEqual(ran[0]!.argv.slice(0, 3), ["docker-compose", "--progress", "plain"]);
    assert.ok(ran[0]!.argv.includes("--remove-orphans"));
    assert.deepEqual(asked, [
      'POST http://docker/images/prune?filters={"dangling":["false"]}',
      "POST http://docker/volumes/prune",
    ]);
  });

  test("waits for a registry that is down, and clears the error when it is back", async () => {
    const down = { code: 1, lines: REGISTRY_DOWN };
    const { options, ports, notified, waits } = machine([down, down, { code: 0, lines: [] }]);
    await startApp(options, ports);
    assert.deepEqual(waits, [3000, 6000]);
    const errors = notified.filter(([event]) => event === "boot.error").map(([, text]) => text);
    assert.equal(errors.length, 3);
    assert.match(errors[0]!, /^guest\/app-failed: .*connection refused.*trying again in 3 s$/);
    assert.equal(errors[2], "");
    assert.ok(notified.some(([, text]) => text === "waiting for the registry"));
    assert.equal(notified.at(-1)![1], "done");
  });

  test("containers that dockerd is restoring are waited for, but not for ever", async () => {
    const race = {
      code: 1,
      lines: ["Error response from daemon: Bind for 0.0.0.0:80 failed: port is already allocated"],
    };
    const passing = machine([race, { code: 0, lines: [] }]);
    await startApp(passing.options, passing.ports);
    assert.deepEqual(passing.waits, [2000]);
    assert.equal(passing.notified.at(-1)![1], "done");

    const lasting = machine(Array.from({ length: 10 }, () => race));
    await assert.rejects(startApp(lasting.options, lasting.ports), { code: "guest/app-failed" });
    assert.equal(lasting.waits.length, 5);
  });

  test("a compose file that cannot work fails once, with compose's words", async () => {
    const { options, ports, notified, waits } = machine([{ code: 15, lines: BAD_FILE }]);
    await assert.rejects(startApp(options, ports), { code: "guest/app-failed" });
    assert.deepEqual(waits, []);
    assert.match(
      notified.at(-1)![1],
      /^guest\/app-failed: failed to start containers: service web has neither/,
    );
  });

  test("what the pre-launch script exports reaches compose", async () => {
    const { options, ports, ran, notified } = machine([], { preLaunchScript: "export A=1" });
    await startApp(options, ports);
    assert.deepEqual(ran[1]!.env, { A: "1", B: "x\ny=z" });
    assert.equal(notified[0]![1], "pre-launch");
  });

  test("a pre-launch script that fails stops the app before any container", async () => {
    const { options, ports, ran } = machine([{ code: 1, lines: [] }], { preLaunchScript: "false" });
    await assert.rejects(startApp(options, ports), /pre_launch_script/);
    assert.equal(ran.length, 1);
  });

  test("runner bash runs its script and needs no docker", async () => {
    const { options, ports, ran, notified, written } = machine([], {
      runner: "bash",
      bashScript: "echo hi",
    });
    await startApp(options, { ...ports, docker: () => Promise.reject(new Error("not asked")) });
    assert.equal(ran[0]!.argv[0], "bash");
    assert.ok([...written.values()].includes("echo hi"));
    assert.deepEqual(notified.map(([, payload]) => payload), [
      "running main script",
      "the rest",
      "done",
    ]);
  });

  test("stopping stops the containers and keeps them", async () => {
    const { options, ports, ran } = machine([]);
    await stopApp(options, ports);
    assert.ok(ran[0]!.argv.includes("stop"));
    assert.ok(!ran[0]!.argv.includes("down"));
  });
});

test("knows which failures pass", () => {
  for (
    const text of [
      REGISTRY_DOWN.join("\n"),
      "dial tcp: lookup registry.example: no such host",
      "net/http: TLS handshake timeout",
      "received unexpected HTTP status: 503 Service Unavailable",
      "toomanyrequests: You have reached your pull rate limit",
    ]
  ) assert.equal(isTransientFailure(text), true, text);
  for (
    const text of [
      BAD_FILE.join("\n"),
      "manifest unknown: manifest unknown",
      "pull access denied for private/app, repository does not exist",
      "Bind for 0.0.0.0:80 failed: port is already allocated",
    ]
  ) assert.equal(isTransientFailure(text), false, text);
  assert.match(failureSummary("a\nb\nError response from daemon: no\n"), /^Error response/);
});
