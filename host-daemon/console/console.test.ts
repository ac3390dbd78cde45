import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { serveHttp } from "#adapters/http-server.ts";
import type { Listening } from "#adapters/listening.ts";
import { fakeApi } from "../api/fake-api.fixture.ts";
import { request } from "../vmm/fake-host.fixture.ts";

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
  .find((path) => existsSync(path));
const skip = "Deno" in globalThis
  ? "playwright-core needs Node"
  : CHROMIUM === undefined
  ? "no chromium"
  : false;
const TOKEN = "console-token";

describe("the console in a browser", { skip }, () => {
  const out = mkdtempSync(join(tmpdir(), "console-"));
  let browser: Browser;
  let page: Page;
  let server: Listening;
  let fake: Awaited<ReturnType<typeof fakeApi>>;
  const faults: string[] = [];

  before(async () => {
    const { build } = await import("vite");
    const configFile = fileURLToPath(new URL("./vite.config.ts", import.meta.url));
    await build({ configFile, logLevel: "error", build: { outDir: out } });
    fake = await fakeApi(
      { auth: { enabled: true, tokens: [TOKEN] } },
      async () => new Uint8Array(readFileSync(join(out, "index.html"))),
    );
    server = await serveHttp((req, env) => fake.app.fetch(req, env), {
      host: "127.0.0.1",
      port: 0,
    });
    browser = await chromium.launch({ executablePath: CHROMIUM!, args: ["--no-sandbox"] });
    page = await browser.newPage();
    page.on("pageerror", (error) => faults.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error") faults.push(message.text());
    });
  });
  after(async () => {
    await browser?.close();
    await server?.close(0);
    fake?.host[Symbol.dispose]();
    rmSync(out, { recursive: true, force: true });
  });

  test("asks for the token, then keeps it out of the address bar", async () => {
    const url = `http://127.0.0.1:${server.port}/`;
    assert.equal((await fetch(url)).status, 401);
    await page.goto(`${url}?token=${TOKEN}`);
    await page.getByText("No CVM yet.").waitFor();
    assert.equal(page.url(), url);
  });

  test("shows a CVM as it boots, without being reloaded", async () => {
    const id = await fake.host.vmm.create(request({ name: "hello" }));
    const entry = fake.host.inventory.require(id);
    const card = page.getByRole("article", { name: "hello" });
    await card.getByText("booting", { exact: true }).waitFor();
    await card.getByText("Simulated TEE").waitFor();
    await fake.host.vmm.notify(entry, "boot.progress", "requesting app keys");
    await card.getByText("requesting app keys").waitFor();
    await fake.host.vmm.notify(entry, "boot.progress", "done");
    await card.getByText("running", { exact: true }).waitFor();
    await card.getByText("Booted in").waitFor();
  });

  test("follows the serial log and shows markup in it as text", async () => {
    const card = page.getByRole("article", { name: "hello" });
    const [entry] = fake.host.inventory.all();
    const path = fake.host.launcher.workDirectory(entry!.cvm.id).log("serial");
    if (!(await card.getByRole("log").isVisible())) await card.getByText("Serial log").click();
    await fake.host.files.append(path, "<b>systemd</b> is up\n");
    await card.getByText("<b>systemd</b> is up").waitFor();
  });

  test("kills, starts and, once asked again, removes", async () => {
    const card = page.getByRole("article", { name: "hello" });
    await card.getByRole("button", { name: "Kill" }).click();
    await card.getByText("stopped", { exact: true }).waitFor();
    await card.getByRole("button", { name: "Start" }).click();
    await card.getByText("booting", { exact: true }).waitFor();
    await card.getByRole("button", { name: "Remove" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: "Keep it" }).click();
    assert.equal(fake.host.inventory.all().length, 1);
    await card.getByRole("button", { name: "Remove" }).click();
    await dialog.getByRole("button", { name: "Remove" }).click();
    await page.getByText("No CVM yet.").waitFor();
    assert.equal(fake.host.fake.alive.size, 0);
  });

  test("its own policy blocked nothing and no script failed", () => {
    assert.deepEqual(faults, []);
  });
});
