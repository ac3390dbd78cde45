/** The verify page: one HTML file with script and style inside, allowed by their digests. */
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const SOURCE = fileURLToPath(new URL("../../functions/verifier/page/", import.meta.url));

/**
 * Where the page may connect to: the verifier that serves it, apps and a PCCS behind TLS, and a PCCS on
 * this machine. It does so only when its user asks for it.
 */
const CONNECT = ["'self'", "https:", "http://localhost:*", "http://127.0.0.1:*"];

/** The page as text; the same for the same sources. */
export async function buildVerifyPage(): Promise<string> {
  const template = await readFile(`${SOURCE}index.html`, "utf8");
  const script = (await bundle("main.ts")).replaceAll("</script", "<\\/script");
  const style = await bundle("style.css");
  const policy = [
    "default-src 'none'",
    `script-src ${digest(script)}`,
    `style-src ${digest(style)}`,
    `connect-src ${CONNECT.join(" ")}`,
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; ");
  const meta = `<meta http-equiv="Content-Security-Policy" content="${policy}" />`;
  return template
    .replace("<head>", () => `<head>\n    ${meta}`)
    .replace("<!-- style -->", () => `<style>${style}</style>`)
    .replace("<!-- script -->", () => `<script>${script}</script>`);
}

async function bundle(entry: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [SOURCE + entry],
    bundle: true,
    minify: true,
    format: "iife",
    platform: "browser",
    target: ["es2022", "chrome123", "firefox120", "safari17.5"],
    charset: "utf8",
    legalComments: "none",
    write: false,
  });
  return outputFiles[0]!.text;
}

function digest(text: string): string {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

if (import.meta.main) {
  const folder = fileURLToPath(new URL("../../dist/verify-page/", import.meta.url));
  await mkdir(folder, { recursive: true });
  await writeFile(`${folder}index.html.new`, await buildVerifyPage());
  await rename(`${folder}index.html.new`, `${folder}index.html`);
  process.stderr.write("wrote dist/verify-page/index.html\n");
}
