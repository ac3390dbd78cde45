import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

/**
 * One HTML file with script and style inside, allowed by their digests: the console is then one request,
 * which is all that `/?token=…` authenticates.
 */
function singleFile(): Plugin {
  return {
    name: "single-file",
    enforce: "post",
    generateBundle(_, bundle) {
      const html = bundle["index.html"];
      if (html?.type !== "asset") throw new Error("index.html was not built");
      let page = String(html.source);
      const digests = { script: [] as string[], style: [] as string[] };
      const inline = (kind: "script" | "style", text: string) => {
        digests[kind].push(`'sha256-${createHash("sha256").update(text).digest("base64")}'`);
        return kind === "script"
          ? `<script type="module">${text}</script>`
          : `<style>${text}</style>`;
      };
      let scripts = "";
      for (const [name, file] of Object.entries(bundle)) {
        if (file.type === "chunk") {
          const text = file.code.replaceAll("</script", "<\\/script");
          page = page.replace(new RegExp(`<script[^>]*src="[^"]*${name}"[^>]*></script>`), "");
          scripts += inline("script", text);
          delete bundle[name];
        } else if (name.endsWith(".css")) {
          const tag = new RegExp(`<link[^>]*href="[^"]*${name}"[^>]*>`);
          page = page.replace(tag, () => inline("style", String(file.source)));
          delete bundle[name];
        }
      }
      page = page.replace("</body>", () => `${scripts}</body>`);
      const policy = [
        "default-src 'none'",
        `script-src ${digests.script.join(" ")}`,
        `style-src ${digests.style.join(" ")}`,
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
      ].join("; ");
      const meta = `<meta http-equiv="Content-Security-Policy" content="${policy}" />`;
      html.source = page.replace("<head>", () => `<head>\n    ${meta}`);
    },
  };
}

export default defineConfig({
  root: path("."),
  base: "./",
  build: {
    outDir: path("../../dist/console"),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  plugins: [singleFile()],
});
