import assert from "node:assert/strict";
import { test } from "node:test";
import { fromUtf8 } from "../bytes/bytes.ts";
import { parseAppCompose } from "./app-compose.ts";
import { createAppCompose } from "./create-app-compose.ts";

const YAML = 'services:\n  web:\n    image: "grüße/web:1"\n';

test("a new app-compose is sorted, compact and unescaped", () => {
  assert.equal(
    fromUtf8(createAppCompose({ name: "hello", dockerComposeFile: YAML })),
    '{"allowed_envs":[],"docker_compose_file":"services:\\n  web:\\n    image: \\"grüße/web:1\\"\\n",' +
      '"gateway_enabled":true,"key_provider":"kms","kms_enabled":true,"manifest_version":2,' +
      '"name":"hello","no_instance_id":false,"public_logs":false,"public_sysinfo":false,' +
      '"public_tcbinfo":true,"runner":"docker-compose","secure_time":false}',
  );
});

test("what needs manifest version 3 gets it", () => {
  const parse = (spec: Partial<Parameters<typeof createAppCompose>[0]>) =>
    parseAppCompose(createAppCompose({ name: "a", dockerComposeFile: YAML, ...spec }));
  const app = parse({ requirements: { platforms: ["dstack-tdx"] }, initScripts: ["a", "b"] });
  assert.equal(app.manifestVersion, 3);
  assert.deepEqual(app.initScripts, ["a", "b"]);
  assert.deepEqual(app.requirements?.platforms, ["dstack-tdx"]);
  assert.equal(parse({ initScripts: ["a"] }).manifestVersion, 2);
});

test("an app no guest would take is refused at once", () => {
  assert.throws(
    () => createAppCompose({ name: "a", dockerComposeFile: YAML, requirements: { os: "1" } }),
    /unknown field/,
  );
  assert.throws(
    () => createAppCompose({ name: "a", dockerComposeFile: YAML, swapSize: "lots" }),
    /swap_size/,
  );
});
