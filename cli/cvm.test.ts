import assert from "node:assert/strict";
import { test } from "node:test";
import { utf8 } from "#core/bytes/bytes.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { fakeApi } from "#host-daemon/api/fake-api.fixture.ts";
import { COMPOSE, request } from "#host-daemon/vmm/fake-host.fixture.ts";
import { fetchOf, terminal } from "./terminal.fixture.ts";

async function running(settings: Record<string, unknown> = {}) {
  const api = await fakeApi({ gateway: { base_domain: "apps.test", port: 443 }, ...settings });
  const { host } = api;
  const ids = [
    await host.vmm.create(request({ name: "web" })),
    await host.vmm.create(
      request({ name: "journal", stopped: true, composeFile: COMPOSE.replace("hello", "other") }),
    ),
  ];
  const steps: (() => void | Promise<void>)[] = [];
  const { dstack } = terminal({ fetch: fetchOf(api.app), onSleep: () => steps.shift()?.() });
  const entry = host.inventory.require(ids[0]!);
  return { api, host, ids, entry, dstack, steps };
}

test("ps lists every CVM, as a table or as JSON", async () => {
  const { host, dstack } = await running();
  using _ = host;
  const { code, stdout } = await dstack("ps");
  assert.equal(code, 0);
  const [header, ...rows] = stdout.trimEnd().split("\n");
  assert.match(header!, /^ID +NAME +STATUS +BOOT +TEE +APP ID$/);
  assert.deepEqual(rows.map((row) => row.split(/ +/).slice(1, 3)), [
    ["web", "running"],
    ["journal", "stopped"],
  ]);
  for (const column of ["NAME", "STATUS", "TEE"]) {
    const at = header!.indexOf(column);
    for (const row of rows) assert.match(row.slice(at - 1, at + 1), /^ \S$/, column);
  }
  const { cvms } = JSON.parse((await dstack("ps", "--json")).stdout);
  assert.deepEqual(cvms.map(({ name }: { name: string }) => name), ["web", "journal"]);
});

test("info shows a CVM by any of its names, with the phases of its boot", async () => {
  const { host, ids, entry, dstack } = await running();
  using _ = host;
  await host.vmm.notify(entry, "boot.progress", "requesting app keys");
  for (const name of [ids[0]!, "web", entry.cvm.appId]) {
    const { code, stdout } = await dstack("info", name, "--json");
    assert.equal(code, 0, name);
    assert.equal(JSON.parse(stdout).id, ids[0]);
  }
  const { stdout } = await dstack("info", "web");
  assert.match(stdout, /^TEE +SIMULATED$/m);
  assert.match(stdout, /^boot +requesting app keys$/m);
  assert.match(stdout, /^boot phases$/m);
});

test("a name nobody or several have is told apart", async () => {
  const { host, dstack } = await running();
  using _ = host;
  const nobody = await dstack("info", "mail");
  assert.equal(nobody.code, 1);
  assert.match(nobody.stderr, /No CVM 'mail'; 'dstack ps' lists them/);
  const several = await dstack("info", "vm-");
  assert.equal(several.code, 1);
  assert.match(several.stderr, /names 2 CVMs; say which: /);
});

test("logs prints the end of the serial log, or what a container wrote", async () => {
  const { api, host, ids, dstack } = await running();
  using _ = host;
  host.content.set(`/run/vm/${ids[0]}/serial.log`, utf8("one\ntwo\nthree\n"));
  const serial = await dstack("logs", "web", "-n", "2");
  assert.deepEqual([serial.code, serial.stdout], [0, "two\nthree\n"]);
  const container = await dstack("logs", "web", "--container", "hello-web-1");
  assert.deepEqual([container.code, container.stdout], [0, "line\n"]);
  assert.match(api.agentCalls[0]!, /hello-web-1/);
  const none = await dstack("logs", "web", "-n", "all");
  assert.deepEqual([none.code, none.stdout], [2, ""]);
  assert.match(none.stderr, /--lines takes a whole number/);
});

test("stop asks the guest and waits for its end; --force does not ask", async () => {
  const { host, ids, dstack, steps, entry } = await running();
  using _ = host;
  const exit = () => {
    host.fake.alive.clear();
    return host.watcher.turn();
  };
  steps.push(() => {}, exit);
  const { code, stdout } = await dstack("stop", "web");
  assert.deepEqual([code, stdout], [0, `Stopped ${ids[0]}\n`]);
  assert.deepEqual(host.shutdowns, [ids[0]]);

  assert.equal((await dstack("start", "web")).code, 0);
  assert.equal((await dstack("stop", "web", "--force")).code, 0);
  assert.deepEqual(host.shutdowns, [ids[0]]);
  assert.equal(host.fake.alive.size, 0);
  assert.ok(entry);
});

test("a guest that does not shut down is told, with what ends it", async () => {
  const { host, dstack } = await running();
  using _ = host;
  const { code, stderr } = await dstack("stop", "web", "--timeout", "2");
  assert.equal(code, 1);
  assert.match(stderr, /web did not shut down in 2 s; 'dstack stop web --force' ends it/);
});

test("start --wait shows each phase of the boot and ends with it", async () => {
  const { host, ids, dstack, steps } = await running();
  using _ = host;
  const journal = host.inventory.require(ids[1]!);
  for (const phase of ["requesting app keys", "starting containers", "done"]) {
    steps.push(() => host.vmm.notify(journal, "boot.progress", phase));
  }
  const { code, stdout, stderr } = await dstack("start", "journal", "--wait");
  assert.deepEqual([code, stdout], [0, `Started ${ids[1]}\n`]);
  assert.ok(stderr.includes("  requesting app keys\n"), stderr);
});

test("start --wait says why a boot failed, and gives up when it takes too long", async () => {
  const { host, ids, dstack, steps } = await running();
  using _ = host;
  const journal = host.inventory.require(ids[1]!);
  steps.push(() => host.vmm.notify(journal, "boot.error", "no KMS answers"));
  const late = await dstack("start", "journal", "--wait", "--timeout", "3");
  assert.equal(late.code, 1);
  assert.match(late.stderr, /did not come up in 3 s, at '.*': no KMS answers; see 'dstack logs/);
});

test("rm takes a running CVM only by --force", async () => {
  const { host, ids, dstack } = await running();
  using _ = host;
  const refused = await dstack("rm", "web");
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /web is running; stop it first, or 'dstack rm web --force'/);
  assert.equal((await dstack("rm", "web", "--force")).code, 0);
  assert.deepEqual(JSON.parse((await dstack("rm", "journal", "--json")).stdout), { id: ids[1] });
  assert.deepEqual(JSON.parse((await dstack("ps", "--json")).stdout), { cvms: [] });
});

test("dstackd wants its token, from a file or the environment", async () => {
  const api = await fakeApi({ auth: { enabled: true, tokens: ["s3cret"] } });
  using _ = api.host;
  const fetch = fetchOf(api.app);
  const files = { "token": "s3cret\n", "wrong": "guess" };
  const anonymous = await terminal({ fetch }).dstack("ps");
  assert.equal(anonymous.code, 1);
  assert.match(anonymous.stderr, /--token-file FILE, DSTACK_TOKEN_FILE or DSTACK_TOKEN/);
  const { dstack } = terminal({ fetch, files });
  assert.equal((await dstack("ps", "--token-file", "wrong")).code, 1);
  assert.equal((await dstack("--token-file", "token", "ps")).code, 0);
  assert.equal((await dstack("ps", "--token-file", "none")).code, 2);
  for (const env of [{ DSTACK_TOKEN: "s3cret" }, { DSTACK_TOKEN_FILE: "token" }]) {
    assert.equal((await terminal({ fetch, files, env }).dstack("ps")).code, 0);
  }
});

test("dstackd is reached where --host or DSTACK_HOST says, also on a unix socket", async () => {
  const api = await fakeApi();
  using _ = api.host;
  const reached: string[] = [];
  const recording = (name: string): FetchLike => (url, init) => {
    reached.push(`${name} ${new URL(url).host}`);
    return fetchOf(api.app)(url, init);
  };
  const options = {
    fetch: recording("tcp"),
    unixFetch: (path: string) => recording(path),
    env: { DSTACK_HOST: "unix:/run/dstackd.sock" },
  };
  const { dstack } = terminal(options);
  assert.equal((await dstack("ps")).code, 0);
  assert.equal((await dstack("ps", "--host", "http://10.0.0.1:9080")).code, 0);
  assert.equal((await terminal({ ...options, env: {} }).dstack("ps")).code, 0);
  assert.deepEqual(reached, [
    "/run/dstackd.sock localhost",
    "tcp 10.0.0.1:9080",
    "tcp 127.0.0.1:9080",
  ]);
  const down = await terminal().dstack("ps");
  assert.equal(down.code, 1);
  assert.match(down.stderr, /Cannot reach dstackd at http:\/\/127\.0\.0\.1:9080; is it running/);
});

test("help and version are data; usage errors are not", async () => {
  const { dstack } = terminal();
  const help = await dstack("--help");
  assert.deepEqual([help.code, help.stderr], [0, ""]);
  assert.match(help.stdout, /Usage: dstack/);
  assert.deepEqual(await dstack("--version"), { code: 0, stdout: "0.1.0\n", stderr: "" });
  for (const argv of [["frob"], ["info"], ["ps", "--all"], ["verify", "frob"]]) {
    const { code, stdout, stderr } = await dstack(...argv);
    assert.deepEqual([code, stdout], [2, ""], argv.join(" "));
    assert.match(stderr, /^error: /);
  }
});

test("every command shows an example", async () => {
  const { dstack } = terminal();
  const commands = ["deploy", "ps", "info", "logs", "start", "stop", "rm"];
  for (
    const name of [...commands, "verify app", "verify quote", "verify attestation", "completion"]
  ) {
    const { stdout } = await dstack(...name.split(" "), "--help");
    assert.match(stdout, new RegExp(`\n  \\$ dstack ${name} `), name);
  }
});
