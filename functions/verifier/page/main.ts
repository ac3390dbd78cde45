import { agentUrlOf, challengeApp, idInUrl } from "#core/attestation/app-evidence.ts";
import { appraise } from "#core/attestation/appraise.ts";
import { CVM_CHECKS, DEFAULT_POLICY } from "#core/attestation/policy.ts";
import { reportData } from "#core/attestation/report-data.ts";
import { fromUtf8, toHex, utf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { readResponse } from "#core/http/response-body.ts";
import { collateralToJson } from "#core/tdx/collateral.ts";
import { DEFAULT_PCCS_URL, fetchCollateral } from "#core/tdx/pccs-client.ts";
import { TCB_STATUSES } from "#core/tdx/tcb-status.ts";
import { commonNameOf } from "#core/x509/common-name.ts";
import { MAX_REQUEST_BYTES, parseVerificationRequest } from "../request.ts";
import { byId, checkedValues, h, input } from "./dom.ts";
import { type Evidence, type Material, recognise } from "./material.ts";
import { pageFetch, sealTab } from "./network.ts";
import { announcementOf, renderReport, titleOf } from "./report.ts";
import { applySettings, readSettings } from "./settings.ts";
import { forgetRoot, loadRoot, trustAnchors } from "./trust.ts";

/** Evidence in the form, and the id in the app's name when this page asked for it. */
let evidence: (Evidence & { readonly askedId?: string }) | undefined;
/** From a file, or fetched for the evidence of that moment. */
let collateral: { readonly json: unknown; readonly source: string } | undefined;
let offered: Readonly<Record<string, unknown>> = {};
/** The app this page asked last, and the report data its answer must bind. */
let asked: { readonly askedId: string; readonly reportData: string } | undefined;

const PAGE_TITLE = document.title;

// ---- material

function take(material: Material): void {
  switch (material.kind) {
    case "evidence":
      // Evidence from elsewhere has nothing to do with a challenge that was already answered.
      if (byId("by-hand").hidden) forgetChallenge();
      setEvidence({ ...material.evidence, ...(asked && { askedId: asked.askedId }) });
      if (material.collateral !== undefined) setCollateral(material.collateral, "the request");
      offer(material.settings);
      break;
    case "collateral":
      setCollateral(material.collateral, "a file");
      break;
    case "app-compose":
      input("compose-hash").value = material.composeHash;
      note(`Compose hash ${material.composeHash.slice(0, 16)}… is now expected.`);
      break;
    case "certificate":
      takeCertificate(material);
      break;
  }
  staleResult();
}

function forgetChallenge(): void {
  if (asked && input("report-data").value === asked.reportData) input("report-data").value = "";
  asked = undefined;
}

function takeCertificate({ certificate, bytes }: Material & { kind: "certificate" }): void {
  const name = commonNameOf(certificate.subject) ?? "";
  if (/KMS/i.test(name)) {
    input("kms-root").value = toHex(certificate.spki);
    note(`The KMS of “${name}” is now expected.`);
  } else {
    loadRoot(bytes);
    note(`“${name}” was loaded as root of trust: see “How to judge”.`);
  }
}

function setEvidence(next: Evidence & { readonly askedId?: string }): void {
  evidence = next;
  if (collateral && collateral.source !== "a file") clearCollateral();
  byId("require-set").hidden = next.isBare;
  note(
    next.isBare
      ? `${next.what}: by itself it can prove hardware and registers, but no app.`
      : `${next.what}.`,
  );
}

function setCollateral(json: unknown, source: string): void {
  collateral = { json, source };
  if (source === "a file" || source === "the request") {
    input("collateral-file-choice").checked = true;
  }
  byId("collateral-note").textContent = `Collateral is here, from ${source}. Its signatures are ` +
    "checked against the root.";
}

function clearCollateral(): void {
  collateral = undefined;
  byId("collateral-note").textContent = "";
}

function offer(settings: Readonly<Record<string, unknown>>): void {
  offered = settings;
  const names = Object.keys(settings);
  byId("settings-offer").hidden = names.length === 0;
  byId("settings-offer-text").textContent = `Whoever made this request also set ${
    names.join(", ")
  }. These are yours to decide.`;
}

function note(text: string): void {
  byId("evidence-note").textContent = text;
}

function problem(error: unknown, element = byId("problem")): void {
  if (error === undefined) element.textContent = "";
  else if (error instanceof AppError) element.textContent = `${error.message}.`;
  else {
    element.textContent = `This page failed: ${error instanceof Error ? error.message : error}`;
    throw error;
  }
}

async function takeFile(file: File): Promise<void> {
  if (file.size > MAX_REQUEST_BYTES) {
    throw new AppError("input/too-large", `${file.name} is too large`);
  }
  const material = recognise(new Uint8Array(await file.arrayBuffer()));
  if (material.kind === "evidence") {
    byId<HTMLTextAreaElement>("paste").value = "";
    note(`${file.name}: ${material.evidence.what}`);
  }
  take(material);
}

async function takeFiles(files: Iterable<File>): Promise<void> {
  try {
    for (const file of files) await takeFile(file);
    problem(undefined);
  } catch (error) {
    problem(error);
  }
}

/** A file chosen for one purpose must be of that kind. */
function onFile(id: string, use: (bytes: Uint8Array) => void): void {
  input(id).addEventListener("change", async () => {
    const [file] = input(id).files ?? [];
    input(id).value = "";
    if (!file) return;
    try {
      use(new Uint8Array(await file.arrayBuffer()));
      problem(undefined);
      staleResult();
    } catch (error) {
      problem(error);
    }
  });
}

// ---- asking an app

async function challenge(): Promise<void> {
  const nonce = crypto.getRandomValues(new Uint8Array(32));
  byId("by-hand").hidden = true;
  let url: URL;
  let agent: URL;
  try {
    const text = input("app-url").value.trim();
    if (!URL.canParse(text)) {
      throw new AppError("input/malformed", "Name the app by its https URL");
    }
    url = new URL(text);
    agent = agentUrlOf(url);
  } catch (error) {
    problem(error);
    return;
  }
  const askedId = idInUrl(url);
  forgetChallenge();
  asked = { askedId, reportData: toHex(reportData("app-data", nonce)) };
  input("report-data").value = asked.reportData;
  note(`Asking ${agent.host} …`);
  try {
    const answer = await challengeApp(agent, nonce, pageFetch);
    const material = recognise(answer.attestation);
    if (material.kind !== "evidence") {
      throw new AppError("upstream/invalid", `${agent.host} answered without evidence`);
    }
    byId<HTMLTextAreaElement>("paste").value = "";
    setEvidence({ ...material.evidence, askedId });
    staleResult();
    note(`${material.evidence.what}, made for this page's challenge by ${agent.host}.`);
    problem(undefined);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    note("");
    byId("by-hand-why").textContent = `${error.message}.`;
    byId("by-hand-command").textContent = `curl -k ${
      new URL("/v1/attestation", agent).href
    } --json '{"nonce":"${toHex(nonce)}"}'`;
    byId("by-hand").hidden = false;
  }
}

// ---- collateral

async function collateralFor(quote: Uint8Array): Promise<unknown> {
  const [source] = checkedValues("collateral");
  if (source === "file") {
    if (collateral) return collateral.json;
    throw new AppError("input/malformed", "Choose the file with the collateral");
  }
  const wanted = source === "pccs" ? input("pccs-url").value.trim() : "this page's verifier";
  if (collateral?.source === wanted) return collateral.json;
  if (source === "pccs" && !URL.canParse(wanted)) {
    throw new AppError("input/malformed", "Name the PCCS by its URL");
  }
  const json = source === "pccs"
    ? collateralToJson(await fetchCollateral(quote, { baseUrl: wanted, fetch: pageFetch }))
    : await askService(quote);
  setCollateral(json, wanted);
  return json;
}

async function askService(quote: Uint8Array): Promise<unknown> {
  const url = new URL("/v1/collateral", location.href).href;
  const response = await pageFetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ quote: toHex(quote) }),
  });
  const body = await readResponse(response, MAX_REQUEST_BYTES, "The verifier");
  const json = JSON.parse(fromUtf8(body, "the verifier's answer")) as { detail?: unknown };
  if (response.ok) return json;
  throw new AppError("upstream/unavailable", `The verifier has no collateral: ${json.detail}`);
}

// ---- verdict

async function verify(): Promise<void> {
  if (!evidence) {
    byId("paste").focus();
    throw new AppError("input/malformed", "There is no evidence yet: ask an app, or paste it");
  }
  const { members, isBare, askedId } = evidence;
  const anchors = trustAnchors();
  const withoutCollateral = { ...members, ...readSettings(isBare) };
  const { attestation } = parseVerificationRequest(JSON.stringify(withoutCollateral));
  const { quote } = ("platform" in attestation ? attestation.platform : attestation) as {
    quote?: Uint8Array;
  };
  const request = JSON.stringify({
    ...withoutCollateral,
    ...(quote && { collateral: await collateralFor(quote) }),
  });
  const parsed = parseVerificationRequest(request);
  const verdict = await appraise({
    ...parsed,
    now: parsed.time ?? new Date(),
    trustAnchors: anchors,
  });
  const report = { verdict, attestation, request, askedId };
  const result = byId("result");
  result.replaceChildren(...renderReport(report));
  result.hidden = false;
  result.classList.remove("stale");
  document.title = `${titleOf(report)} · ${PAGE_TITLE}`;
  byId("announcement").textContent = announcementOf(report);
  byId("verdict-title").focus();
  result.scrollIntoView({ block: "start" });
}

/** A verdict answers the form as it was. */
function staleResult(): void {
  const result = byId("result");
  if (result.hidden || result.classList.contains("stale")) return;
  result.classList.add("stale");
  document.title = PAGE_TITLE;
  byId("announcement").textContent =
    "The form has changed: the verdict below is of what it said before.";
}

// ---- the form comes alive

byId("require-choices").append(...CVM_CHECKS.map((id) => choice("require", id, true)));
byId("tcb-choices").append(
  ...TCB_STATUSES.filter((status) => status !== "Revoked")
    .map((status) => choice("tcb", status, DEFAULT_POLICY.allowedTcbStatuses.includes(status))),
);

function choice(name: string, value: string, checked: boolean): HTMLElement {
  const box = h("input", { type: "checkbox", name, value, checked });
  return h("label", { class: "choice" }, box, h("span", {}, value));
}

// Browsers give WebCrypto to secure contexts alone; without it nothing here can be verified.
if (crypto.subtle === undefined) {
  byId("insecure").hidden = false;
  byId<HTMLButtonElement>("verify").disabled = true;
}

input("pccs-url").value = DEFAULT_PCCS_URL;
const served = location.protocol.startsWith("http");
byId("collateral-service-row").hidden = !served;
input(served ? "collateral-service" : "collateral-pccs").checked = true;

const paste = byId<HTMLTextAreaElement>("paste");
paste.addEventListener("input", () => {
  evidence = undefined;
  offer({});
  problem(undefined);
  if (paste.value.trim() === "") return note("");
  try {
    const material = recognise(utf8(paste.value));
    take(material);
    if (material.kind !== "evidence") paste.value = "";
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    note(`${error.message}.`);
  }
});
byId("challenge").addEventListener("click", () => void challenge());
input("app-url").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  void challenge();
});
input("report-data").addEventListener("input", () => asked = undefined);
byId("by-hand-copy").addEventListener("click", () => {
  void navigator.clipboard.writeText(byId("by-hand-command").textContent);
});
byId("settings-take").addEventListener("click", () => {
  applySettings(offered);
  offer({});
});
input("evidence-file").addEventListener("change", async () => {
  await takeFiles([...input("evidence-file").files ?? []]);
  input("evidence-file").value = "";
});
onFile("compose-file", (bytes) => take(ofKind("app-compose", bytes)));
onFile("collateral-file", (bytes) => take(ofKind("collateral", bytes)));
onFile("root-file", loadRoot);
onFile("kms-file", (bytes) => {
  const { certificate } = ofKind("certificate", bytes);
  input("kms-root").value = toHex(certificate.spki);
});

function ofKind<K extends Material["kind"]>(
  kind: K,
  bytes: Uint8Array,
): Material & { kind: K } {
  const material = recognise(bytes);
  if (material.kind === kind) return material as Material & { kind: K };
  throw new AppError("input/malformed", `This file is ${material.kind}, not ${kind}`);
}

input("root-intel").addEventListener("change", forgetRoot);

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
for (const name of ["dragleave", "drop", "dragend"]) {
  document.addEventListener(name, () => document.body.classList.remove("dropping"));
}
document.addEventListener("drop", (event) => {
  event.preventDefault();
  void takeFiles(event.dataTransfer?.files ?? []);
});

const form = byId<HTMLFormElement>("form");
form.addEventListener("input", staleResult);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = byId<HTMLButtonElement>("verify");
  button.disabled = true;
  problem(undefined);
  try {
    await verify();
  } catch (error) {
    problem(error);
  } finally {
    button.disabled = false;
  }
});

byId("seal").addEventListener("click", () => {
  sealTab();
  byId<HTMLButtonElement>("seal").disabled = true;
  byId("seal-note").textContent = "This tab is cut off: the browser refuses its requests.";
});

/** `#app=https://…` names an app to ask; asking takes a click. */
const linked = new URLSearchParams(location.hash.slice(1)).get("app");
if (linked !== null) input("app-url").value = linked;
