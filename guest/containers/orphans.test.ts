import assert from "node:assert/strict";
import { test } from "node:test";
import { utf8 } from "#core/bytes/bytes.ts";
import { readComposeProject, removeOrphans, removeOrphansOffline } from "./orphans.ts";

const PROJECT = { name: "dstack", services: new Set(["web"]) };
const labels = (project: string, service: string) => ({
  "com.docker.compose.project": project,
  "com.docker.compose.service": service,
});
const CONTAINERS = [
  ["a1".repeat(32), labels("dstack", "web")],
  ["b2".repeat(32), labels("dstack", "gone")],
  ["c3".repeat(32), labels("other", "gone")],
  ["d4".repeat(32), {}],
] as const;
const ORPHAN = "b2".repeat(32);

test("compose says what the project is, whatever profiles its services have", async () => {
  let asked: readonly string[] = [];
  const project = await readComposeProject((argv) => {
    asked = argv;
    const stdout = JSON.stringify({ name: "dstack", services: { web: {}, db: {} } });
    return Promise.resolve({ code: 0, stdout, stderr: "" });
  }, "/dstack/docker-compose.yaml");
  assert.deepEqual([...project.services], ["web", "db"]);
  assert.deepEqual(asked.slice(0, 5), [
    "docker-compose",
    "--profile",
    "*",
    "-f",
    "/dstack/docker-compose.yaml",
  ]);
  const failing = () => Promise.resolve({ code: 15, stdout: "", stderr: "no such file" });
  await assert.rejects(readComposeProject(failing, "/x"), { code: "guest/command-failed" });
});

for (const dryRun of [false, true]) {
  test(`through dockerd, orphans alone are ${dryRun ? "named" : "removed"}`, async () => {
    const requests: string[] = [];
    const lines = await removeOrphans(PROJECT, dryRun, (url, { method }) => {
      const { pathname, search } = new URL(url);
      requests.push(`${method} ${pathname}${search}`);
      const listed = CONTAINERS.map(([Id, Labels]) => ({ Id, Labels }));
      return Promise.resolve(
        method === "GET" ? Response.json(listed) : new Response(null, { status: 204 }),
      );
    });
    assert.deepEqual(requests, [
      "GET /containers/json?all=true",
      ...(dryRun ? [] : [`DELETE /containers/${ORPHAN}?force=true&v=true`]),
    ]);
    assert.deepEqual(lines, [
      `${dryRun ? "would remove" : "removing orphaned container"} gone ${ORPHAN}`,
    ]);
  });

  test(`without dockerd, directories of orphans are ${dryRun ? "named" : "removed"}`, async () => {
    const removed: string[] = [];
    const unreadable = ["e5".repeat(32), "f6".repeat(32)];
    const skipped: unknown[] = [];
    const lines = await removeOrphansOffline(PROJECT, dryRun, "/root", {
      files: {
        list: (path) => {
          assert.equal(path, "/root/containers");
          return Promise.resolve([...CONTAINERS.map(([id]) => id), ...unreadable]);
        },
        read: (path) => {
          const id = path.split("/")[3];
          const container = CONTAINERS.find(([known]) => known === id);
          if (container === undefined) {
            return Promise.resolve(id === unreadable[0] ? undefined : utf8("{"));
          }
          return Promise.resolve(utf8(JSON.stringify({ Config: { Labels: container[1] } })));
        },
        remove: (path) => Promise.resolve(void removed.push(path)),
      },
      log: (_message, fields) => void skipped.push(fields?.["id"]),
    });
    assert.deepEqual(removed, dryRun ? [] : [`/root/containers/${ORPHAN}`]);
    assert.deepEqual(lines, [
      `${dryRun ? "would remove" : "removing orphaned container"} gone b2b2b2b2b2b2`,
    ]);
    assert.deepEqual(skipped, unreadable);
  });
}
