import { existsSync } from "node:fs";
import { after, before, test } from "node:test";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";

const PROGRAM = "/usr/bin/chromium";

/** Why there is no browser to test in; false where there is one. */
export const noChromium = "Deno" in globalThis
  ? "skipped: playwright-core on Deno"
  : existsSync(PROGRAM)
  ? false
  : "skipped: chromium";

let browser: Browser;

/** Starts the machine's Chromium for the tests of a file; without one they say so and skip. */
export function useChromium(): void {
  if (noChromium) return;
  before(async () => {
    const { chromium } = await import("playwright-core");
    browser = await chromium.launch({
      executablePath: PROGRAM,
      args: [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    });
  });
  after(() => browser.close());
}

/** A test with a page of its own; what the page says on its console is a failure of the test. */
export function pageTest(
  name: string,
  body: (page: Page) => Promise<void>,
  options: BrowserContextOptions & { readonly expectsErrors?: boolean } = {},
): void {
  test(name, { skip: noChromium, timeout: 60_000 }, async () => {
    const { expectsErrors = false, ...contextOptions } = options;
    const context = await browser.newContext({
      viewport: { width: 1100, height: 900 },
      acceptDownloads: true,
      ...contextOptions,
    });
    try {
      const page = await context.newPage();
      const complaints: string[] = [];
      page.on("pageerror", (error) => complaints.push(error.message));
      page.on("console", (message) => {
        if (message.type() === "error") complaints.push(message.text());
      });
      await body(page);
      if (!expectsErrors && complaints.length > 0) throw new Error(complaints.join("\n"));
    } finally {
      await context.close();
    }
  });
}
