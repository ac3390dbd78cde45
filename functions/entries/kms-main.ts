import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { getLogger } from "@logtape/logtape";
import { loadConfig } from "#adapters/config.ts";
import { writeFileAtomic } from "#adapters/files.ts";
import { configureLogging } from "#adapters/logging.ts";
import { createPrometheusMetrics } from "#adapters/metrics.ts";
import { fromHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { noMetrics } from "#core/http/metrics.ts";
import { decisionToJson } from "#functions/db/kms-decisions.ts";
import { type KmsConfig, kmsConfigSchema } from "#functions/kms/config.ts";
import { issueCertByHand, ISSUED_BY_HAND } from "#functions/kms/issue-cert.ts";
import { hasKeys, loadRootCa } from "#functions/kms/key-store.ts";
import { kmsMetrics } from "#functions/kms/metrics.ts";
import { type KmsServiceOptions, openKms, startKms } from "./kms-service.ts";
import { closeOnSignal } from "./process.ts";
import { VERSION } from "./version.ts";

/**
 * The key management service: `--config kms.toml`, `--check-config`, and
 * `issue-cert --app-id HEX --subject NAME [--alt-name NAME]... --out DIR`.
 */
export async function kmsMain(argv: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      config: { type: "string", short: "c", default: "kms.toml" },
      "check-config": { type: "boolean", default: false },
      "app-id": { type: "string" },
      subject: { type: "string" },
      "alt-name": { type: "string", multiple: true, default: [] },
      out: { type: "string" },
    },
  });
  const [command, ...more] = positionals;
  if (more.length > 0 || command !== undefined && command !== "issue-cert") {
    throw new AppError("config/invalid", `Unknown command: ${positionals.join(" ")}`);
  }
  const config = await loadConfig(kmsConfigSchema, {
    file: values.config,
    envPrefix: "DSTACK_KMS_",
    otherVariables: [ADMIN_TOKEN, DATABASE_TOKEN],
  });
  if (values["check-config"]) return;
  if (command === "issue-cert") {
    const { "app-id": appId, subject, "alt-name": altNames, out } = values;
    if (appId === undefined || subject === undefined || out === undefined) {
      throw new AppError("config/invalid", "issue-cert needs --app-id, --subject and --out");
    }
    return await issueCert(config, fromHex(appId, "--app-id", 20), subject, altNames, out);
  }
  await configureLogging({ program: "kms", level: config.log_level });
  const service = await startKms(config, serviceOptions(config));
  closeOnSignal(() => service.close());
}

/** Writes rpc.key, rpc.crt (leaf and app CA) and ca.crt (the root) into `out`. */
async function issueCert(
  config: KmsConfig,
  appId: Uint8Array,
  subject: string,
  altNames: readonly string[],
  out: string,
): Promise<void> {
  await configureLogging({ program: "kms", level: "warning" });
  const { files, ports, close } = await openKms(config, serviceOptions(config));
  try {
    if (!await hasKeys(files)) {
      throw new AppError("kms/not-ready", "This KMS has no keys yet: start it first");
    }
    const root = await loadRootCa(files, ports.now());
    const issued = await issueCertByHand(ports, root, { appId, subject, altNames });
    await mkdir(out, { recursive: true, mode: 0o700 });
    await writeFileAtomic(join(out, "rpc.key"), issued.keyPem, 0o600);
    await writeFileAtomic(join(out, "rpc.crt"), issued.certPem, 0o644);
    await writeFileAtomic(join(out, "ca.crt"), issued.rootCaPem, 0o644);
    process.stderr.write(`Certificate for ${subject}: ${ISSUED_BY_HAND}\n`);
  } finally {
    await close();
  }
}

const ADMIN_TOKEN = "DSTACK_KMS_ADMIN_TOKEN";
const DATABASE_TOKEN = "DSTACK_KMS_DATABASE_TOKEN";

function serviceOptions({ core }: KmsConfig): KmsServiceOptions {
  const log = getLogger("kms");
  const metrics = core.metrics.enabled ? createPrometheusMetrics() : noMetrics;
  const counted = kmsMetrics(metrics);
  const agent = process.env["DSTACK_AGENT_ADDRESS"]?.replace(/^unix:/, "");
  return {
    version: VERSION,
    metrics,
    log: {
      decision: (row) => {
        counted.decision(row);
        log.info("decision", decisionToJson(row));
      },
      error: (what, error) => log.error("Failed: {what}", { what, error }),
      info: (message, facts) => log.info(message, { ...facts }),
    },
    agentSockets: agent === undefined
      ? ["/var/run/dstack/dstack.sock", "/var/run/dstack.sock"]
      : [agent],
    databaseToken: process.env[DATABASE_TOKEN] || undefined,
    adminToken: process.env[ADMIN_TOKEN] || process.env["ADMIN_API_TOKEN"],
  };
}
