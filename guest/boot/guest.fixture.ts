import { utf8 } from "#core/bytes/bytes.ts";
import { type AppComposeSpec, createAppCompose } from "#core/compose/create-app-compose.ts";
import { encodeP256Pkcs8, p256Spki } from "#core/crypto/p256.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { RuntimeEvent } from "#core/event-log/runtime-event.ts";
import {
  buildCertificate,
  type CertificateSpec,
  type Issuer,
  selfIssuer,
} from "#core/ra-tls/certificate-builder.ts";
import { certificatePem, parseCertificatePem, privateKeyPem } from "#core/ra-tls/certificate.ts";
import { KMS } from "#core/rpc/gen/kms_pb.ts";
import { prpcRoutes } from "#core/rpc/server.ts";
import { createSimulatedPlatform } from "#core/tdx/simulated-platform.ts";
import type { Tee } from "../tee/tee.ts";
import type { HostFileName, HostFiles } from "./host-files.ts";
import type { KmsTrust } from "./kms-client.ts";
import { goodJson, header } from "./luks-header.fixture.ts";
import { setup, type SetupPorts } from "./setup.ts";

export const WORK_DIR = "/var/volatile/dstack";
const platform = createSimulatedPlatform(new Uint8Array(32).fill(7));
const zero = new Uint8Array(48);

export interface Scenario {
  readonly compose?: Partial<AppComposeSpec>;
  readonly composeText?: string;
  readonly sysConfig?: object;
  readonly instanceInfo?: string;
  readonly encryptedEnv?: Uint8Array;
  readonly mrConfigId?: Uint8Array;
  readonly loggedBefore?: readonly RuntimeEvent[];
  readonly failing?: { readonly program: string; readonly stderr: string };
  /** Takes the place of the files made from the members above. */
  readonly takeHostFiles?: () => Promise<HostFiles>;
  /** Without it the KMS refuses. */
  readonly kms?: Kms;
}

/** A KMS that answers: the secret its apps' environments are sealed to, and its root's public key. */
export interface Kms {
  readonly envCryptKey: Uint8Array;
  readonly providerId: Uint8Array;
  readonly makeTlsFetch: KmsTrust["makeTlsFetch"];
}

/** Waiting longer than this is a hang. */
const MAX_SLEEPS = 100;

/** A guest of object literals that records what setup does to it. */
export function testGuest(scenario: Scenario) {
  const composeBytes = scenario.composeText === undefined
    ? createAppCompose({
      name: "app",
      dockerComposeFile: "services: {}",
      keyProvider: "none",
      gatewayEnabled: false,
      storageFs: "ext4",
      ...scenario.compose,
    })
    : utf8(scenario.composeText);
  const steps: string[] = [];
  const events: RuntimeEvent[] = [...scenario.loggedBefore ?? []];
  const notified: [string, string][] = [];
  const consoleLines: string[] = [];
  const written = new Map<string, { text: string; mode: number }>();
  const disk = new Uint8Array(64 * 1024 * 1024);
  const mounted = new Set<string>();

  const tee: Tee = {
    simulated: true,
    quote(reportData) {
      steps.push("quote");
      return Promise.resolve(platform.signQuote({
        mrTd: zero,
        rtmrs: [zero, zero, zero, zero],
        mrConfigId: scenario.mrConfigId ?? zero,
        reportData,
      }));
    },
    extend(event) {
      steps.push(`event ${event.event}`);
      events.push(event);
      return Promise.resolve();
    },
    runtimeEvents: () => Promise.resolve([...events]),
    eventLog: () => Promise.resolve([]),
  };
  const hostFiles = new Map<HostFileName, Uint8Array>([
    ["app-compose.json", composeBytes],
    [".sys-config.json", utf8(JSON.stringify({ vm_config: "{}", ...scenario.sysConfig }))],
  ]);
  if (scenario.instanceInfo !== undefined) {
    hostFiles.set(".instance_info", utf8(scenario.instanceInfo));
  }
  if (scenario.encryptedEnv !== undefined) hostFiles.set(".encrypted-env", scenario.encryptedEnv);

  const ports: SetupPorts = {
    files: {
      read: (path) => {
        steps.push(`read ${path}`);
        const text = written.get(path)?.text;
        return Promise.resolve(
          path.endsWith("/luks/header") && text !== undefined
            ? crafted
            : text === undefined
            ? undefined
            : utf8(text),
        );
      },
      write(path, data, mode) {
        const text = typeof data === "string" ? data : `${data.length} bytes`;
        written.set(path, { text, mode });
        return Promise.resolve();
      },
      makeDirectory: () => Promise.resolve(),
      exists: (path) => Promise.resolve(written.has(path) || path.startsWith("/dev/mapper/")),
      list: () => Promise.resolve([]),
      remove(path) {
        for (const name of written.keys()) if (name.startsWith(path)) written.delete(name);
        return Promise.resolve();
      },
      symlink: (target, path) =>
        Promise.resolve(void written.set(path, { text: `-> ${target}`, mode: 0 })),
    },
    run(argv) {
      steps.push(argv.slice(0, 2).join(" "));
      if (argv[0] === scenario.failing?.program) {
        return Promise.resolve({ code: 1, stdout: "", stderr: scenario.failing!.stderr });
      }
      if (argv[1] === "luksFormat") {
        written.set("/run/dstack/luks/header", { text: "", mode: 0o600 });
      }
      if (argv[0] === "mount") mounted.add(argv.at(-1)!);
      return Promise.resolve({ code: 0, stdout: "", stderr: "" });
    },
    log: () => {},
    sleep() {
      steps.push("sleep");
      return steps.filter((step) => step === "sleep").length < MAX_SLEEPS
        ? Promise.resolve()
        : Promise.reject(new TypeError("The boot waits without end"));
    },
    now: () => new Date("2026-01-01T00:00:00Z"),
    random: (length) => new Uint8Array(length).fill(9),
    kernelParameters: () =>
      Promise.resolve({
        tee: "sim",
        dataDevice: undefined,
        storageEncrypted: true,
        storageFs: undefined,
      }),
    systemIsUp: () => Promise.resolve(),
    takeHostFiles() {
      steps.push("take host files");
      return scenario.takeHostFiles?.() ?? Promise.resolve(hostFiles);
    },
    createNotifier: () => ({
      notify(event, payload) {
        notified.push([event, payload]);
        steps.push(`notify ${event} ${payload.slice(0, 40)}`);
      },
      flush: () => Promise.resolve(),
    }),
    openTee: () => Promise.resolve(tee),
    findDataDevice: () => Promise.resolve("/dev/vdb"),
    dataDisk: {
      openDisk: () =>
        Promise.resolve({
          sizeBytes: disk.length,
          read: (offset, length) => Promise.resolve(disk.subarray(offset, offset + length)),
          writeDurably(offset, bytes) {
            steps.push("write header");
            disk.set(bytes, offset);
            return Promise.resolve();
          },
        }),
      isMountPoint: (path) => Promise.resolve(mounted.has(path)),
    },
    meanwhile: () => Promise.resolve(void steps.push("meanwhile")),
    kmsTrust: () => ({
      makeTlsFetch: (options) => (url, init) => {
        steps.push("KMS request");
        return scenario.kms?.makeTlsFetch(options)(url, init) ??
          Promise.reject(new AppError("upstream/refused", "Boot denied: not today"));
      },
      verifyKmsEvidence: () => Promise.resolve(),
    }),
    console: (line) => Promise.resolve(void consoleLines.push(line)),
  };
  const options = { workDir: WORK_DIR, mountPoint: `${WORK_DIR}/persistent`, device: undefined };
  return {
    run: () => setup(options, ports),
    steps,
    events,
    notified,
    consoleLines,
    written,
    mounted,
    composeBytes,
    disk,
  };
}

/** A valid header as cryptsetup would have written it; luks-header.test.ts says why it is valid. */
const crafted = header(goodJson());

/** A KMS without a network: whoever asks gets keys. Only https URLs reach it, as in adapters/tls-fetch.ts. */
export function testKms(): Kms {
  const notAfter = new Date("2030-01-01T00:00:00Z");
  const certificate = (
    commonName: string,
    key: Uint8Array,
    issuer: Issuer,
    rest: Partial<CertificateSpec>,
  ) =>
    certificatePem(
      buildCertificate({
        subject: { commonName },
        publicKey: p256Spki(key),
        issuer,
        notAfter,
        ...rest,
      }),
    );
  const [rootKey, temporaryKey] = [3, 4].map((byte) => new Uint8Array(32).fill(byte)) as [
    Uint8Array,
    Uint8Array,
  ];
  const ca = (commonName: string, key: Uint8Array) =>
    certificate(commonName, key, selfIssuer({ commonName }, key), { ca: { pathLength: 1 } });
  const envCryptKey = new Uint8Array(32).fill(2);
  const caCert = ca("KMS", rootKey);
  const routes = prpcRoutes(KMS, {
    getTempCaCert: () => ({
      tempCaCert: ca("Temp CA", temporaryKey),
      tempCaKey: privateKeyPem(encodeP256Pkcs8(temporaryKey)),
      caCert,
    }),
    getAppKey: () => ({
      diskCryptKey: new Uint8Array(32).fill(1),
      envCryptKey,
      k256Key: new Uint8Array(32).fill(3),
      k256Signature: new Uint8Array(65).fill(4),
      gatewayAppId: "any",
      osImageHash: new Uint8Array(32).fill(5),
    }),
  }, { context: () => undefined });
  return {
    envCryptKey,
    providerId: parseCertificatePem(caCert).publicKey,
    makeTlsFetch: () => async (url, init) => {
      const { protocol, pathname, search } = new URL(url);
      if (protocol !== "https:") throw new TypeError(`Not an https URL: ${protocol}`);
      const path = pathname.replace(/^.*\/prpc/, "") + search;
      return await routes.request(path, {
        method: init.method,
        headers: { ...init.headers },
        ...(init.body !== undefined && { body: new Uint8Array(init.body as Uint8Array) }),
      });
    },
  };
}
