import type { Command } from "commander";
import { agentUrlOf, challengeApp, idInUrl } from "#core/attestation/app-evidence.ts";
import { type AppraisalInput, appraise, type VendorDocuments } from "#core/attestation/appraise.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { registersFromFolder } from "#core/attestation/image-registers.ts";
import { expectationOfId } from "#core/attestation/launch-events.ts";
import { checksOf, policyWith, QUOTE_POLICY } from "#core/attestation/policy.ts";
import type { Reference } from "#core/attestation/reference.ts";
import {
  parseTrustAnchor,
  type TrustAnchor,
  VENDOR_TRUST_ANCHORS,
} from "#core/attestation/trust-anchor.ts";
import { fetchVendorDocuments } from "#core/attestation/vendor-documents.ts";
import { evidenceOfJson } from "#core/attestation/evidence-json.ts";
import { CHECK_IDS, type CheckId, encodeVerdict, type Verdict } from "#core/attestation/verdict.ts";
import { wordsOf } from "#core/attestation/verdict-words.ts";
import { decodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { composeHash } from "#core/compose/identity.ts";
import { decodeOnePem, decodePem } from "#core/encoding/pem.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { parseRfc3339 } from "#core/encoding/rfc3339.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { parseCertificate } from "#core/ra-tls/certificate.ts";
import { AMD_KDS_URL } from "#core/sev-snp/kds-client.ts";
import { fetchCollateral, INTEL_PCS_URL } from "#core/tdx/pccs-client.ts";
import { parseQuote, type Quote } from "#core/tdx/quote.ts";
import { TCB_STATUSES, type TcbStatus } from "#core/tdx/tcb-status.ts";
import { type CliPorts, dataOf, dstackdClient, type GlobalOptions } from "../context.ts";
import { imageFolder } from "../image-folder.ts";
import { readCollateral } from "../collateral-file.ts";
import { rawOrHex, readInput, readInputText } from "../input-file.ts";

/** Exit status of a refusal, so that scripts can tell it from a failure to verify at all. */
export const EXIT_REFUSED = 3;

/** Bytes; twice the largest container and its event log as text. */
const MAX_EVIDENCE_JSON = 32 * 1024 * 1024;

interface TrustOptions extends GlobalOptions {
  readonly time?: string;
  readonly collateral?: string;
  readonly packSigner?: string;
  readonly maxCollateralAge?: number;
  readonly collateralGrace?: number;
  readonly pccs: string;
  readonly vendorCerts?: string;
  readonly kds: string;
  readonly root?: string;
  readonly simulated?: boolean;
  readonly allowTcb?: string;
  readonly allowAdvisory?: string;
  readonly require?: readonly CheckId[];
}

/** What the evidence is compared with. */
interface ReferenceOptions extends TrustOptions {
  readonly kmsCa?: string;
  readonly appId?: string;
  readonly instanceId?: string;
  readonly compose?: string;
  readonly composeHash?: string;
  readonly image?: string;
  readonly imageHash?: string;
}

interface AppOptions extends ReferenceOptions {
  readonly ca?: string;
}

export function addVerify(program: Command, ports: CliPorts): void {
  const verify = program.command("verify")
    .description("Decide whether to trust evidence; exits 3 when it is refused");

  withReferenceOptions(withTrustOptions(verify.command("app")))
    .description("Challenge a running app and verify all of it")
    .argument(
      "<url-or-app-id>",
      "the app's URL, or its app or instance id on this dstackd's gateway",
    )
    .option("--ca <file>", "PEM CA of the gateway's certificate; the system's, unless given")
    .addHelpText(
      "after",
      "\nExample:\n  $ dstack verify app https://4f2a….example.org --compose app-compose.json",
    )
    .action(async (target: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<AppOptions>();
      finish(await verifyApp(target, options, ports), options, ports);
    });

  withReferenceOptions(withTrustOptions(verify.command("attestation")))
    .description("Verify a saved attestation: V0 or V1 container, raw or hex, or dstack's JSON")
    .argument("<file>", "the attestation")
    .addHelpText(
      "after",
      "\nExample:\n  $ dstack verify attestation app.bin --time 2026-03-01T00:00:00Z",
    )
    .action(async (file: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<ReferenceOptions>();
      const attestation = attestationOf(await readInput(file, ports), file);
      const input = await evidenceInput(attestation, options, ports);
      const reference = await referenceOf(options, ports);
      const require = checksOf(reference, undefined);
      const policy = policyWith({ ...input.policy!, require });
      finish(await appraise({ ...input, attestation, reference, policy }), options, ports);
    });

  withTrustOptions(verify.command("quote"))
    .description("Verify a TDX or SGX quote by itself")
    .requiredOption("--quote <file>", "the quote, raw bytes or hex")
    .addHelpText(
      "after",
      "\nExample:\n  $ dstack verify quote --quote q.bin --collateral c.json --time 2025-07-01T00:00:00Z",
    )
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<TrustOptions & { quote: string }>();
      const bytes = rawOrHex(await readInput(options.quote, ports));
      const quote = parseQuote(bytes);
      const input = await trustInput(options, quote, ports);
      const { require = [] } = options;
      const policy = policyWith({ ...input.policy!, required: QUOTE_POLICY.required, require });
      finish(await appraise({ ...input, policy, attestation: { quote: bytes } }), options, ports);
    });
}

/** A container, or one of the JSON forms of GetQuote and of the reference verifier's requests. */
function attestationOf(bytes: Uint8Array, file: string): Attestation {
  if (!/^\s*\{/.test(new TextDecoder("latin1").decode(bytes.subarray(0, 64)))) {
    return decodeAttestation(rawOrHex(bytes));
  }
  const limits = { maxSize: MAX_EVIDENCE_JSON };
  const evidence = evidenceOfJson(
    new JsonObject(parseStrictJson(bytes, file, limits), file).withoutNulls(),
  );
  if ("platform" in evidence) return evidence;
  throw new AppError("input/malformed", `${file} is a quote by itself: use dstack verify quote`);
}

function withReferenceOptions(command: Command): Command {
  return command
    .option("--kms-ca <file>", "PEM root certificate of the KMS the app must have its keys from")
    .option("--app-id <hex>", "app id it must have; of an app's URL, unless that is the instance's")
    .option("--instance-id <hex>", "instance id it must have")
    .option("--compose <file>", "app-compose.json the app must run")
    .option("--compose-hash <hex>", "its SHA-256, instead of the file")
    .option(
      "--image <dir>",
      "guest image that must have booted; legacy CVMs cannot be judged without",
    )
    .option("--image-hash <hex>", "its digest, instead of the folder");
}

function withTrustOptions(command: Command): Command {
  return command
    .option("--time <rfc3339>", "the time the verdict is for; now, unless given")
    .option("--collateral <file>", "collateral as JSON or a pack, instead of fetching it")
    .option("--pack-signer <hex>", "who must have signed the pack, as `collateral keygen` printed")
    .option("--max-collateral-age <time>", "since it was issued: 90s, 12h, 30d", seconds)
    .option("--collateral-grace <time>", "past its end that is still accepted", seconds)
    .option("--pccs <url>", "where collateral is fetched from", INTEL_PCS_URL)
    .option("--vendor-certs <file>", "PEM certificates and CRLs of AMD, AWS or Google")
    .option("--kds <url>", "where AMD's certificates are fetched from", AMD_KDS_URL)
    .option("--root <pem>", "trust this root instead of the vendors'")
    .option("--simulated", "the root given may be that of a simulated TEE")
    .option("--allow-tcb <statuses>", "TCB statuses that pass, comma separated", "UpToDate")
    .option("--allow-advisory <ids>", "advisories that may be open, comma separated, or 'any'")
    .option(
      "--require <checks>",
      "checks that must pass besides, comma separated: acpi-tables, revocation, …",
      checkIds,
    );
}

/** `policy` is about the others. */
const REQUIRABLE = CHECK_IDS.filter((id) => id !== "policy");

function checkIds(text: string): CheckId[] {
  return text.split(",").map((name): CheckId => {
    const id = REQUIRABLE.find((known) => known === name.trim());
    if (id) return id;
    throw new AppError(
      "input/malformed",
      `--require: no check '${name.trim()}'; there are ${REQUIRABLE.join(", ")}`,
    );
  });
}

async function verifyApp(target: string, options: AppOptions, ports: CliPorts): Promise<Verdict> {
  const url = await appUrl(target, options, ports);
  const caPem = options.ca === undefined ? undefined : await readInputText(options.ca, ports);
  const nonce = ports.randomBytes(32);
  const answer = await challengeApp(agentUrlOf(url), nonce, ports.tlsFetch(caPem));
  const attestation = decodeAttestation(answer.attestation);
  const input = await evidenceInput(attestation, options, ports);
  const reference = {
    ...expectationOfId(
      fromHex(idInUrl(url), "the id in the app's URL", 20),
      attestation.stack.runtimeEvents,
    ),
    ...await referenceOf(options, ports),
  };
  const require = checksOf(reference, answer.reportData);
  return await appraise({
    ...input,
    attestation,
    reference,
    policy: policyWith({ ...input.policy!, require }),
    expectedReportData: answer.reportData,
  });
}

async function appUrl(target: string, options: AppOptions, ports: CliPorts): Promise<URL> {
  if (URL.canParse(target) && target.includes("://")) return new URL(target);
  if (!/^(0x)?[0-9a-fA-F]{40}$/.test(target)) {
    throw new AppError("input/malformed", `'${target}' is neither a URL nor an id of 20 bytes`);
  }
  const client = await dstackdClient(options, ports);
  const { gateway } = dataOf(await client.POST("/prpc/GetMeta"));
  const id = target.replace(/^0x/, "").toLowerCase();
  return new URL(`https://${id}.${gateway?.base_domain}:${gateway?.port}`);
}

/** What a whole attestation is judged with, whichever TEE it is of. */
async function evidenceInput(
  attestation: Attestation,
  options: TrustOptions,
  ports: CliPorts,
): Promise<Omit<AppraisalInput, "attestation">> {
  const { platform } = attestation;
  const quote = "quote" in platform ? parseQuote(platform.quote) : undefined;
  const input = await trustInput(options, quote, ports);
  const vendorDocuments = await vendorDocumentsOf(attestation, options, ports);
  return { ...input, ...(vendorDocuments && { vendorDocuments }) };
}

/** A file stands in for AMD's and Google's services, which are asked for what nobody brought. */
async function vendorDocumentsOf(
  attestation: Attestation,
  options: TrustOptions,
  ports: CliPorts,
): Promise<VendorDocuments | undefined> {
  if (options.vendorCerts === undefined) {
    const fetch: FetchLike = (url, init) =>
      (url.startsWith("https:") ? ports.tlsFetch(undefined) : ports.fetch)(url, init);
    return await fetchVendorDocuments(attestation, { amdKdsUrl: options.kds, fetch });
  }
  const pem = await readInputText(options.vendorCerts, ports);
  return { certificates: decodePem("CERTIFICATE", pem), crls: decodePem("X509 CRL", pem) };
}

async function trustInput(
  options: TrustOptions,
  quote: Quote | undefined,
  ports: CliPorts,
): Promise<Omit<AppraisalInput, "attestation">> {
  const now = options.time === undefined ? ports.now() : parseRfc3339(options.time, "--time");
  const collateral = options.collateral !== undefined
    ? await readCollateral(options.collateral, options.packSigner, quote, ports)
    : quote === undefined
    ? undefined
    : await fetchCollateral(quote, {
      baseUrl: options.pccs,
      fetch: options.pccs.startsWith("https:") ? ports.tlsFetch(undefined) : ports.fetch,
    });
  const allowedTcbStatuses = (options.allowTcb ?? "UpToDate").split(",").map((name): TcbStatus => {
    const status = TCB_STATUSES.find((known) => known === name.trim());
    if (status) return status;
    throw new AppError(
      "input/malformed",
      `--allow-tcb: no TCB status '${name}'; there are ${TCB_STATUSES.join(", ")}`,
    );
  });
  const allowedAdvisories = options.allowAdvisory === "any"
    ? "any" as const
    : options.allowAdvisory?.split(",").map((id) => id.trim()) ?? [];
  return {
    collateral,
    now,
    trustAnchors: await trustAnchors(options, ports),
    policy: policyWith({
      allowedTcbStatuses,
      allowedAdvisories,
      require: options.require ?? [],
      collateralGraceSeconds: options.collateralGrace ?? 0,
      ...(options.maxCollateralAge !== undefined && {
        maxCollateralAgeSeconds: options.maxCollateralAge,
      }),
    }),
  };
}

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Whole seconds from text like `90s`, `12h` or `30d`. */
function seconds(text: string): number {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  if (count !== undefined) return Number(count) * UNITS[unit!]!;
  throw new AppError("input/malformed", `'${text}' is no time: write 90s, 15m, 12h or 30d`);
}

async function trustAnchors(
  options: TrustOptions,
  ports: CliPorts,
): Promise<readonly TrustAnchor[]> {
  if (options.root === undefined) return VENDOR_TRUST_ANCHORS;
  const anchor = await parseTrustAnchorFile(options.root, options.simulated === true, ports);
  if (anchor.simulated && !options.simulated) {
    throw new AppError(
      "config/invalid",
      `${options.root} is the root of a simulated TEE; say --simulated to accept that`,
    );
  }
  return [anchor];
}

async function parseTrustAnchorFile(
  path: string,
  simulated: boolean,
  ports: CliPorts,
): Promise<TrustAnchor> {
  const name = simulated ? "simulated-tee" : path.split("/").at(-1)!;
  return parseTrustAnchor(name, await readInput(path, ports), { simulated });
}

async function referenceOf(options: ReferenceOptions, ports: CliPorts): Promise<Reference> {
  const compose = options.compose !== undefined
    ? composeHash(await readInput(options.compose, ports))
    : options.composeHash !== undefined
    ? fromHex(options.composeHash, "--compose-hash", 32)
    : undefined;
  const directory = options.image?.replace(/(?<=.)\/+$/, "");
  const imageHash = directory !== undefined
    ? (await readInputText(`${directory}/digest.txt`, ports)).trim()
    : options.imageHash;
  const kmsCa = options.kmsCa === undefined
    ? undefined
    : parseCertificate(decodeOnePem("CERTIFICATE", await readInputText(options.kmsCa, ports)));
  return {
    ...(options.appId !== undefined && { appId: fromHex(options.appId, "--app-id", 20) }),
    ...(options.instanceId !== undefined &&
      { instanceId: fromHex(options.instanceId, "--instance-id", 20) }),
    ...(compose && { composeHash: compose }),
    ...(imageHash !== undefined && { osImageHashes: [fromHex(imageHash, "image digest", 32)] }),
    ...(directory !== undefined && {
      registersOf: registersFromFolder(imageFolder(directory, ports)),
    }),
    ...(kmsCa && { keyProvider: { name: "kms", id: toHex(kmsCa.publicKey) } }),
  };
}

function finish(verdict: Verdict, options: GlobalOptions, ports: CliPorts): void {
  ports.print(options.json ? encodeVerdict(verdict) : renderVerdict(verdict));
  if (verdict.outcome === "refused") ports.setExitCode(EXIT_REFUSED);
}

const MARKS = { passed: "✓", failed: "✗", "not-applicable": "·", "not-checked": "?" } as const;

function renderVerdict(verdict: Verdict): string {
  const checks = verdict.checks.map(({ id, result, detail }) =>
    `  ${MARKS[result]} ${id.padEnd(20)} ${detail}${
      result === "not-checked" ? " (not checked)" : ""
    }`
  );
  const { identity, reason } = verdict;
  const imageIsProven = verdict.checks.some(({ id, result }) =>
    id === "os-image" && result === "passed"
  );
  return [
    ...checks,
    "",
    ...(identity === null ? [] : [
      `  app id        ${identity.appId}`,
      `  instance id   ${identity.instanceId}`,
      `  compose hash  ${identity.composeHash}`,
      `  OS image      ${identity.osImageHash}${imageIsProven ? "" : " (claimed, not proven)"}`,
      "",
    ]),
    ...(verdict.simulated ? ["SIMULATED TEE: this proves nothing about the hardware."] : []),
    reason === null
      ? `ACCEPTED: ${wordsOf(verdict).headline}`
      : `REFUSED (${reason.code}): ${reason.detail}`,
  ].join("\n");
}
