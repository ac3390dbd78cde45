import assert from "node:assert/strict";
import { test } from "node:test";
import { request } from "../vmm/fake-host.fixture.ts";
import { openApiDocument } from "./app.ts";
import { fakeApi } from "./fake-api.fixture.ts";

const SECRET = "s3cret";

/** As vmm-cli sends it: unknown members and nulls included. */
const CREATE = {
  name: "hello",
  image: "dstack-dev-0.6.0",
  compose_file: request().composeFile,
  vcpu: 2,
  memory: 2048,
  disk_size: 10,
  app_id: null,
  swap_size: 0,
  user_config: "",
  ports: [{ protocol: "tcp", host_port: 8080, vm_port: 80, host_address: "127.0.0.1" }],
};

test("the life of a CVM over pRPC, in the reference's JSON", async () => {
  const { host, rpc } = await fakeApi();
  using _ = host;
  const created = await rpc("CreateVm", CREATE);
  assert.equal(created.status, 200);
  const { id } = created.json as { id: string };

  const { json: status } = await rpc("Status", { brief: true });
  const { vms, total, port_mapping_enabled } = status as Record<string, unknown>;
  assert.deepEqual([total, port_mapping_enabled], [1, true]);
  const [vm] = vms as Record<string, unknown>[];
  assert.equal(vm!["status"], "running");
  assert.equal(vm!["configuration"], null);
  assert.equal(vm!["instance_id"], null);
  assert.equal(vm!["image_version"], "0.6.0");
  assert.equal(vm!["uptime"], "0s");
  assert.equal(vm!["exited_at"], "never");

  host.clock.now += 65_000;
  assert.equal((await rpc("StopVm", { id })).json, null);
  const { json: info } = await rpc("GetInfo", { id });
  const { found, info: stopped } = info as { found: boolean; info: Record<string, unknown> };
  assert.equal(found, true);
  assert.equal(stopped["status"], "stopped");
  assert.equal(stopped["uptime"], "1m 5s");
  const configuration = stopped["configuration"] as Record<string, unknown>;
  assert.equal(configuration["compose_file"], CREATE.compose_file);
  assert.equal(configuration["stopped"], true);
  assert.equal(configuration["simulated_tee"], "dstack-tdx");
  assert.deepEqual((await rpc("GetInfo", { id: "none" })).json, { found: false, info: null });

  await rpc("StartVm", { id });
  await rpc("RemoveVm", { id });
  await host.inventory.find(id)?.queue.run(async () => {});
  assert.deepEqual(((await rpc("Status")).json as Record<string, unknown>)["vms"], []);
});

test("refusals carry the reference's text and a stable code", async () => {
  const { host, rpc } = await fakeApi();
  using _ = host;
  const cases: [string, unknown, string, RegExp][] = [
    ["CreateVm", { ...CREATE, name: "a/b" }, "input/malformed", /^Invalid name: a\/b$/],
    ["CreateVm", { ...CREATE, image: "../x" }, "input/malformed", /^Invalid image name$/],
    ["CreateVm", { ...CREATE, image: "nope" }, "image/not-found", /^image 'nope' not found$/],
    ["CreateVm", { ...CREATE, memory: 1024 }, "input/unsupported", /cannot be measured/],
    ["CreateVm", { ...CREATE, gpus: { attach_mode: "all" } }, "input/unsupported", /GPU is not/],
    ["CreateVm", { ...CREATE, simulated_tee: "x" }, "input/unsupported", /unsupported TEE variant/],
    ["CreateVm", { ...CREATE, compose_file: "no" }, "input/malformed", /app-compose/],
    ["StartVm", { id: "../etc" }, "cvm/not-found", /^VM not found$/],
    ["ResizeVm", { id: "x" }, "input/malformed", /^resize request contains no updates$/],
    ["DeleteImage", { id: ".." }, "input/malformed", /nvalid image name/],
    ["GetAppEnvEncryptPubKey", { app_id: "00" }, "input/unsupported", /^KMS is not configured$/],
    ["ReloadVms", {}, "resource/not-found", /Method not found/],
  ];
  for (const [method, body, code, message] of cases) {
    const answer = await rpc(method, body);
    assert.equal(answer.status, 400, method);
    assert.equal(answer.code, code, method);
    assert.match((answer.json as { error: string }).error, message);
  }
});

test("an image in use cannot be deleted", async () => {
  const { host, rpc } = await fakeApi();
  using _ = host;
  const { json } = await rpc("CreateVm", { ...CREATE, stopped: true });
  const { id } = json as { id: string };
  assert.deepEqual((await rpc("DeleteImage", { id: CREATE.image })).json, {
    error: `cannot delete image '${CREATE.image}': in use by VM '${id}'`,
  });
});

test("every route but the probes asks for the token, in each of its forms", async () => {
  const { host, app } = await fakeApi({ auth: { enabled: true, tokens: [SECRET] } });
  using _ = host;
  for (const path of ["/healthz", "/readyz", "/version"]) {
    assert.equal((await app.request(path)).status, 200, path);
  }
  const guarded = [
    "/",
    "/prpc/Status",
    "/logs?id=x",
    "/v1/cvms",
    "/openapi.json",
    "/metrics",
    "/nothing",
  ];
  for (const path of guarded) {
    const answer = await app.request(path);
    assert.equal(answer.status, 401, path);
    assert.equal(answer.headers.get("www-authenticate"), 'Basic realm="dstack-vmm API"');
    assert.equal(await answer.text(), "");
  }
  const allowed: Record<string, string>[] = [
    { "x-admin-token": SECRET },
    { authorization: `Bearer ${SECRET}` },
    { authorization: `Basic ${btoa(`anyone:${SECRET}`)}` },
    { authorization: `Basic ${btoa(`${SECRET}:`)}` },
  ];
  for (const headers of allowed) {
    assert.equal((await app.request("/v1/cvms", { headers })).status, 200, JSON.stringify(headers));
  }
  assert.equal((await app.request(`/prpc/Status?token=${SECRET}`)).status, 200);
  const posted = await app.request(`/prpc/Status?json&token=${SECRET}`, { method: "POST" });
  assert.equal(posted.status, 401, "a token in the query of a POST is not looked at");
});

test("authentication without any token refuses everyone", async () => {
  const { host, app } = await fakeApi({ auth: { enabled: true, tokens: [""] } });
  using _ = host;
  const headers = { authorization: `Basic ${btoa(":")}` };
  assert.equal((await app.request("/v1/cvms", { headers })).status, 401);
});

test("logs come from known VMs and channels only, cut to their last lines", async () => {
  const { host, app, rpc } = await fakeApi();
  using _ = host;
  const { json } = await rpc("CreateVm", CREATE);
  const { id } = json as { id: string };
  await host.files.append(`/run/vm/${id}/serial.log`, "one\n\x1b[31mtwo\x1b[0m\r\nthree\n");
  const logs = async (query: string) => {
    const answer = await app.request(`/logs?${query}`);
    return [answer.status, await answer.text()];
  };
  assert.deepEqual(await logs(`id=${id}&lines=2`), [200, "two\nthree\n"]);
  assert.deepEqual(await logs(`id=${id}&lines=2&ansi=true`), [
    200,
    "\x1b[31mtwo\x1b[0m\r\nthree\n",
  ]);
  assert.deepEqual(await logs("id=../x"), [404, "VM not found"]);
  assert.deepEqual(await logs(`id=${id}&ch=etc`), [400, "Unknown channel etc"]);
});

test("a followed log shows what is written later", async () => {
  const { host, app, rpc } = await fakeApi();
  using _ = host;
  const { json } = await rpc("CreateVm", CREATE);
  const { id } = json as { id: string };
  const path = `/run/vm/${id}/serial.log`;
  const answer = await app.request(`/logs?id=${id}&follow=true&lines=1`);
  const reader = answer.body!.getReader();
  await reader.read(); // the blank line of the boot's heading
  await host.files.append(path, "later\n");
  const { value } = await reader.read();
  assert.equal(new TextDecoder().decode(value), "later\n");
  await reader.cancel();
});

test("/v1 shows the phases of the latest boot with their seconds", async () => {
  const { host, app, rpc } = await fakeApi();
  using _ = host;
  const { json } = await rpc("CreateVm", CREATE);
  const entry = host.inventory.require((json as { id: string }).id);
  for (
    const [after, phase] of [[3000, "requesting app keys"], [1500, "setting up docker"]] as const
  ) {
    host.clock.now += after;
    await host.vmm.notify(entry, "boot.progress", phase);
  }
  host.clock.now += 2000;
  await host.vmm.notify(entry, "boot.progress", "done");
  const answer = await app.request(`/v1/cvms/${entry.cvm.id}`);
  const cvm = await answer.json() as Record<string, unknown>;
  assert.equal(cvm["tee"], "simulated");
  assert.equal(cvm["bootProgress"], "done");
  assert.deepEqual(
    (cvm["phases"] as { name: string; seconds: number }[]).map((
      { name, seconds },
    ) => [name, seconds]),
    [["starting", 3], ["requesting app keys", 1.5], ["setting up docker", 2]],
  );
  const missing = await app.request("/v1/cvms/none");
  assert.equal(missing.status, 404);
  assert.equal(missing.headers.get("content-type"), "application/problem+json");
});

test("events of a CVM are told from the first one on", async () => {
  const { host, app, rpc } = await fakeApi();
  using _ = host;
  const { json } = await rpc("CreateVm", CREATE);
  const entry = host.inventory.require((json as { id: string }).id);
  const answer = await app.request(`/v1/cvms/${entry.cvm.id}/events`);
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  let seen = "";
  while (!seen.includes("vmm.start")) seen += (await reader.read()).value;
  await host.vmm.notify(entry, "boot.progress", "done");
  while (!seen.includes('"body":"done"')) seen += (await reader.read()).value;
  assert.match(seen, /event: boot\.progress\ndata: \{"cvmId":"vm-1","event":"boot.progress"/);
  await reader.cancel();
});

test("container logs are asked from the guest's agent by a checked name", async () => {
  const { host, app, rpc, agentCalls } = await fakeApi();
  using _ = host;
  const { json } = await rpc("CreateVm", CREATE);
  const { id } = json as { id: string };
  const logs = (name: string, query = "") =>
    app.request(`/v1/cvms/${id}/containers/${name}/logs?${query}`);
  assert.equal(await (await logs("web-1", "tail=5&follow=true")).text(), "line\n");
  assert.deepEqual(agentCalls, ["/logs/web-1?text=&bare=&tail=5&follow="]);
  assert.equal((await logs("..%2Fx")).status, 400);
  assert.equal((await logs("web", "tail=x")).status, 400);
  assert.equal(agentCalls.length, 1);
});

test("a guest's own API is reached with the token that proves the host", async () => {
  const { host, app, rpc, guestCalls } = await fakeApi();
  using _ = host;
  const { json } = await rpc("CreateVm", CREATE);
  const { id } = json as { id: string };
  const answer = await app.request("/guest/SysInfo?json", {
    method: "POST",
    body: JSON.stringify({ id }),
  });
  assert.equal((await answer.json() as Record<string, unknown>)["os_name"], "Debian");
  const port = host.inventory.require(id).run?.guestApiPort;
  assert.deepEqual(guestCalls, [{
    url: `http://127.0.0.1:${port}/api/SysInfo?json`,
    authorization: `Bearer ${"01".repeat(32)}`,
  }]);
});

test("pages of other sites reach nothing, whatever method they use", async () => {
  const { host, app } = await fakeApi();
  using _ = host;
  const call = async (path: string, headers: Record<string, string>) =>
    (await app.request(`http://127.0.0.1:9080${path}`, { headers })).status;
  assert.equal(await call("/prpc/Status", { "sec-fetch-site": "cross-site" }), 403);
  assert.equal(await call("/prpc/Status", { "sec-fetch-site": "same-site" }), 403);
  assert.equal(await call("/prpc/Status", { origin: "https://evil.example" }), 403);
  assert.equal(await call("/prpc/Status", { "sec-fetch-site": "same-origin" }), 200);
  assert.equal(await call("/prpc/Status", { origin: "http://127.0.0.1:9080" }), 200);
  assert.equal(await call("/prpc/Status", { "sec-fetch-site": "none" }), 200);
  const link = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" };
  assert.equal(await call("/", link), 404, "a link to the console may be followed");
  assert.equal(await call("/prpc/RemoveVm?id=x", link), 403, "a link to an action may not");
});

test("without authentication a name that leads here is not enough", async () => {
  const open = await fakeApi();
  const closed = await fakeApi({ auth: { enabled: true, tokens: [SECRET] } });
  using _ = open.host;
  using __ = closed.host;
  const status = async (url: string, { app } = open) =>
    (await app.request(url, { headers: { authorization: `Bearer ${SECRET}` } })).status;
  for (const name of ["127.0.0.1:9080", "localhost:9080", "[::1]:9080", "dstackd.localhost"]) {
    assert.equal(await status(`http://${name}/v1/cvms`), 200, name);
  }
  assert.equal(await status("http://rebound.example:9080/v1/cvms"), 403);
  assert.equal(await status("http://host.example:9080/v1/cvms", closed), 200);
});

test("the published document names every served path and nothing else", async () => {
  const { host, app } = await fakeApi();
  using _ = host;
  const document = openApiDocument("0.1.0") as {
    openapi: string;
    paths: Record<string, Record<string, { operationId: string }>>;
  };
  assert.equal(document.openapi, "3.1.0");
  assert.ok("post" in document.paths["/prpc/CreateVm"]!);
  assert.ok("/prpc/ReloadVms" in document.paths === false);
  for (const [path, operations] of Object.entries(document.paths)) {
    for (const [method, { operationId }] of Object.entries(operations)) {
      assert.ok(operationId, `${method} ${path} has an operationId`);
      if (path.includes("events") || path === "/metrics") continue;
      const url = path.replace(/\{[a-z]+\}/g, "x");
      const answer = await app.request(url, { method: method.toUpperCase() });
      const problem = await answer.text();
      assert.ok(
        !/No (GET|POST) .* here|Method not found/.test(problem),
        `${method} ${path} is served`,
      );
    }
  }
});
