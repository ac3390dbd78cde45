import { Hono } from "hono";
import { html } from "hono/html";
import { toBase64, toHex } from "#core/bytes/bytes.ts";
import { errorChain } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import type { Agent } from "./agent.ts";
import { containerLog, listContainers } from "./docker-client.ts";
import { type LogChunk, readLogChunks, stripAnsi } from "./docker-log-stream.ts";
import { InvalidFlagError, type LogQuery, parseLogQuery } from "./log-query.ts";
import type { SystemInfo } from "./system-info.ts";
import { renderMetrics, systemMetrics } from "./system-metrics.ts";

/** A followed log that says nothing for so long is ended. */
const FOLLOW_SILENCE_MS = 600_000;
/** Streams at a time: each holds a connection to dockerd. */
const MAX_STREAMS = 32;

export interface ContainerPorts {
  /** Docker's API on its socket, without a time limit of its own. */
  readonly docker: FetchLike;
  readonly systemInfo: () => Promise<SystemInfo>;
  readonly now: () => Date;
}

/** The pages of port 8090; logs and metrics exist only where the app's compose made them public. */
export function containerRoutes(agent: Agent, ports: ContainerPorts): Hono {
  const app = new Hono();
  const { compose } = agent;

  app.get("/", async (c) => {
    const { info, tcbInfo } = await agent.describe();
    const listed = await listContainers(ports.docker).catch((error) => {
      agent.log("containers cannot be listed", { error: errorChain(error) });
      return [];
    });
    const containers = listed.map(({ names, status }) => ({
      name: (names[0] ?? "").replace(/^\//, ""),
      status,
    }));
    const provider = new TextDecoder().decode(info.keyProviderInfo);
    const rows: [string, string][] = [
      ["App Name", compose.name],
      ["App ID", toHex(info.appId)],
      ["Instance ID", toHex(info.instanceId)],
      ["Device ID", toHex(info.deviceId)],
      ["Key Provider Info", provider],
    ];
    const { vendor, product } = agent.cloud;
    if (vendor || product) rows.push(["Machine Provider", `${vendor} (${product})`]);
    const link = (name: string) =>
      `/logs/${encodeURIComponent(name)}?text&bare&timestamps&follow&tail=20`;
    return c.html(html`
      <!doctype html>
      <html lang="en">
        <head>
          <meta charset="utf-8" />
          <title>${compose.name}</title>
          <style>
                body { font: 15px system-ui, sans-serif; margin: 2rem; max-width: 60rem }
                td, th { padding: 0.3rem 1rem 0.3rem 0; text-align: left; word-break: break-all }
                textarea { width: 100%; height: 20rem; font: 12px monospace }
                </style>
        </head>
        <body>
                <h1>${compose.name}</h1>
                <table>${rows.map(([name, value]) =>
                  html`
                    <tr>
                      <th>${name}</th>
                      <td>${value}</td>
                    </tr>
                  `
                )}</table>
                <h2>Containers</h2>
                <table>${containers.map(({ name, status }) =>
                  html`
                    <tr>
                      <td>${compose.publicLogs
                        ? html`<a href="${link(name)}">${name}</a>`
                        : name}</td>
                      <td>${status}</td>
                    </tr>
                  `
                )}</table>
                <h2>TCB info</h2>
                ${compose.publicTcbinfo
                  ? html`<textarea readonly>${tcbInfo}</textarea>`
                  : html`<p>This app does not make its TCB info public.</p>`}
              </body>
      </html>
    `);
  });

  if (compose.publicLogs) {
    let streams = 0;
    app.get("/logs/:name", async (c) => {
      let query: LogQuery;
      try {
        query = parseLogQuery(new URL(c.req.url).searchParams, ports.now());
      } catch (error) {
        if (error instanceof InvalidFlagError) return c.json({ error: error.message }, 422);
        return c.text(JSON.stringify({ error: errorChain(error) }) + "\n");
      }
      if (streams >= MAX_STREAMS) return c.json({ error: "Too many log streams" }, 429);
      streams++;
      const stop = new AbortController();
      const chunks = logChunks(c.req.param("name"), query, ports.docker, stop);
      const lines = renderLog(chunks, query);
      const body = streamOf(until(lines, stop, () => streams--));
      return c.body(body, 200, { "content-type": "text/plain; charset=utf-8" });
    });
  }

  if (compose.publicSysinfo) {
    app.get(
      "/metrics",
      async (c) =>
        c.text(renderMetrics(systemMetrics(await ports.systemInfo())), 200, {
          "content-type": "text/plain; version=0.0.4; charset=utf-8",
        }),
    );
  }
  return app;
}

async function* logChunks(
  name: string,
  query: LogQuery,
  docker: FetchLike,
  stop: AbortController,
): AsyncGenerator<LogChunk> {
  const { stream, framed } = await containerLog(name, query, docker, stop.signal);
  yield* readLogChunks(stream, framed);
}

/** Errors appear in the stream, as the reference shows them: its status was sent long before. */
async function* renderLog(
  chunks: AsyncGenerator<LogChunk>,
  query: LogQuery,
): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  const decoder = new TextDecoder();
  try {
    for await (const { channel, data } of chunks) {
      const message = query.text ? decoder.decode(data) : toBase64(data);
      if (!query.bare) yield encoder.encode(JSON.stringify({ channel, message }) + "\n");
      else yield encoder.encode(query.text && !query.ansi ? stripAnsi(message) : message);
    }
  } catch (error) {
    yield encoder.encode(JSON.stringify({ error: errorChain(error) }) + "\n");
  }
}

/** Ends the source when its reader goes away or it says nothing for too long. */
async function* until(
  source: AsyncGenerator<Uint8Array>,
  stop: AbortController,
  ended: () => void,
): AsyncGenerator<Uint8Array> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const watch = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), FOLLOW_SILENCE_MS);
  };
  try {
    watch();
    for await (const chunk of source) {
      watch();
      yield chunk;
    }
  } finally {
    clearTimeout(timer);
    stop.abort();
    ended();
  }
}

function streamOf(source: AsyncGenerator<Uint8Array>): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await source.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await source.return(undefined);
    },
  });
}
