import { type AppraisalInput } from "#core/attestation/appraise.ts";
import { type Check, encodeVerdict, type Verdict } from "#core/attestation/verdict.ts";
import {
  CHECK_MEANINGS,
  type Statement,
  teeName,
  wordsOf,
} from "#core/attestation/verdict-words.ts";
import type { RuntimeEvent } from "#core/event-log/runtime-event.ts";
import { comparedIn, type Rows } from "./comparison.ts";
import { download, h } from "./dom.ts";
import { readable } from "./material.ts";

export interface Report {
  readonly verdict: Verdict;
  readonly attestation: AppraisalInput["attestation"];
  /** The JSON this verdict answers: any verifier gives the same one for it. */
  readonly request: string;
  /** The app or instance id in the name that was asked, when one was. */
  readonly askedId: string | undefined;
}

const OUTCOMES = { accepted: "Accepted", refused: "Refused" } as const;

/** Whether the evidence is genuine but of another app than the name that was asked stands for. */
function isAnotherApp({ verdict, askedId }: Report): boolean {
  const { identity, outcome } = verdict;
  return askedId !== undefined && outcome === "accepted" && identity !== null &&
    identity.appId !== askedId && identity.instanceId !== askedId;
}

/** What a screen reader is told when a verdict appears. */
export function announcementOf(report: Report): string {
  return `${titleOf(report)}. ${headlineOf(report)}`;
}

/** The outcome as a window's title may say it. */
export function titleOf(report: Report): string {
  const { outcome, simulated } = report.verdict;
  const word = isAnotherApp(report) ? "Another app" : OUTCOMES[outcome];
  return simulated ? `SIMULATED: ${word}` : word;
}

/** A verdict for people: the answer, who, what was proven and what not, then everything else. */
export function renderReport(report: Report): Node[] {
  const { verdict, attestation, request } = report;
  const events = "stack" in attestation ? attestation.stack.runtimeEvents : [];
  const json = encodeVerdict(verdict);
  return [
    banner(report),
    identity(verdict),
    statements(verdict),
    checks(report),
    h(
      "section",
      { class: "card more" },
      h("h3", {}, "The evidence and the verdict"),
      ...(events.length > 0 ? [eventLog(events)] : []),
      registers(verdict),
      h(
        "details",
        {},
        h("summary", {}, "Verdict as JSON"),
        h(
          "pre",
          { tabindex: "0", id: "verdict-json", role: "region", "aria-label": "Verdict as JSON" },
          JSON.stringify(verdict, null, 2),
        ),
      ),
      h(
        "div",
        { class: "row start" },
        button(
          "Download verdict",
          "download-verdict",
          () => download("verdict.json", json, "application/json"),
        ),
        button(
          "Download request",
          "download-request",
          () => download("verification-request.json", request, "application/json"),
        ),
        h(
          "p",
          { class: "hint" },
          "Sent to any verifier's /v1/verify that trusts the same root, the request gives this " +
            "very verdict.",
        ),
      ),
    ),
  ];
}

function button(text: string, id: string, click: () => void): HTMLButtonElement {
  return h("button", { type: "button", id, click }, text);
}

function banner(report: Report): HTMLElement {
  const { verdict } = report;
  const other = isAnotherApp(report);
  const refused = verdict.outcome === "refused" || other;
  return h(
    "div",
    {
      class: `banner ${refused ? "refused" : "accepted"}${verdict.simulated ? " simulated" : ""}`,
      "data-outcome": other ? "another-app" : verdict.outcome,
    },
    ...(verdict.simulated ? [h("p", { class: "stamp" }, "Simulated TEE")] : []),
    h(
      "h2",
      { id: "verdict-title", tabindex: "-1" },
      h("span", { class: "sign", "aria-hidden": "true" }, refused ? "✗" : "✓"),
      other ? "Genuine, but another app" : OUTCOMES[verdict.outcome],
    ),
    h("p", { class: "headline" }, headlineOf(report)),
    ...(verdict.reason === null
      ? []
      : [h("p", { class: "quiet" }, "Reason ", h("code", {}, verdict.reason.code))]),
  );
}

function headlineOf(report: Report): string {
  const { verdict, askedId } = report;
  return isAnotherApp(report)
    ? `The evidence is genuine, but it is of app ${verdict.identity!.appId}, not of ${askedId}, ` +
      "which was asked."
    : wordsOf(verdict).headline;
}

function identity(verdict: Verdict): HTMLElement {
  const { identity: who, tcb, trustAnchor, outcome } = verdict;
  const provider = who?.keyProvider;
  // Registers prove the rest of an accepted identity; this one only once they were computed.
  const imageIsProven = verdict.checks.some(({ id, result }) =>
    id === "os-image" && result === "passed"
  );
  const facts: readonly (readonly [string, string | undefined])[] = [
    ["App id", who?.appId],
    ["Instance id", who?.instanceId],
    ["Compose hash", who?.composeHash],
    [imageIsProven ? "OS image" : "OS image, as claimed", who?.osImageHash],
    ["Keys from", provider ? `${provider.name} ${provider.id}` : undefined],
    ["TEE", verdict.simulated ? `SIMULATED ${teeName(verdict)}` : teeName(verdict)],
    ["Signed under", trustAnchor?.name],
    ["Patch level", tcb ? patchLevel(tcb) : undefined],
    ["Open advisories", tcb ? tcb.advisoryIds.join(", ") || "none" : undefined],
    ["Judged for", verdict.evaluatedAt],
  ];
  return h(
    "section",
    { class: "card" },
    h("h3", {}, outcome === "accepted" ? "Who" : "Who it claims to be"),
    h(
      "dl",
      { class: "facts" },
      ...facts.filter(([, value]) => value !== undefined && value !== "").map(([name, value]) =>
        h(
          "div",
          {},
          h("dt", {}, name),
          h("dd", {}, h("span", {}, value!), copyButton(name, value!)),
        )
      ),
    ),
  );
}

/** Only for what nobody types. */
function copyButton(name: string, value: string): Node {
  if (!/^[0-9a-f]{32,}$/.test(value)) return document.createTextNode("");
  const copy = h("button", {
    type: "button",
    class: "copy",
    "aria-label": `Copy ${name}`,
    click: () => {
      navigator.clipboard.writeText(value).then(
        () => copy.textContent = "copied",
        () => copy.textContent = "cannot copy",
      );
    },
  }, "copy");
  return copy;
}

function statements(verdict: Verdict): HTMLElement {
  const { proven, unproven } = wordsOf(verdict);
  const accepted = verdict.outcome === "accepted";
  const list = (items: readonly Statement[], mark: string) =>
    h(
      "ul",
      {},
      ...items.map(({ text, failed = false }) =>
        h(
          "li",
          { ...(failed && { class: "failed" }) },
          h("span", { class: "sign", "aria-hidden": "true" }, failed ? "✗" : mark),
          text,
        )
      ),
    );
  const title = !accepted
    ? "What held"
    : verdict.simulated
    ? "What fits, under a simulated root"
    : "What was proven";
  return h(
    "div",
    { class: "columns" },
    h(
      "section",
      { class: `card proven${accepted ? "" : " idle"}` },
      h("h3", {}, title),
      ...(accepted ? [] : [
        h("p", { class: "hint" }, "Of refused evidence nothing is proven: this much of it fits."),
      ]),
      list(proven, "✓"),
    ),
    h(
      "section",
      { class: "card unproven" },
      h("h3", {}, "What was not"),
      unproven.length > 0 ? list(unproven, "–") : h("p", {}, "Nothing was left open."),
    ),
  );
}

const MARKS: Readonly<Record<Check["result"], readonly [sign: string, word: string]>> = {
  "passed": ["✓", "passed"],
  "failed": ["✗", "failed"],
  "not-checked": ["?", "not checked"],
  "not-applicable": ["·", "not applicable"],
};

function checks({ verdict, request }: Report): HTMLElement {
  const { checks: list, reason } = verdict;
  return h(
    "section",
    { class: "card checks" },
    h("h3", {}, "Every check"),
    ...list.map(({ id, result, detail }) => {
      const [sign, word] = MARKS[result];
      const compared = comparedIn(id, verdict, request);
      return h(
        "details",
        { class: result, "data-check": id, ...(reason?.check === id && { open: true }) },
        h(
          "summary",
          {},
          h("span", { class: "sign", "aria-hidden": "true" }, sign),
          h("span", { class: "id" }, id),
          h("span", { class: "word" }, word),
        ),
        h("p", {}, `${detail}.`),
        h("p", { class: "hint" }, `When it passes, ${CHECK_MEANINGS[id]}.`),
        ...(reason?.check === id
          ? [h("p", { class: "hint" }, "Reason code ", h("code", {}, reason.code))]
          : []),
        ...(compared.length > 0 ? [pairs(`What ${id} looked at`, compared)] : []),
      );
    }),
  );
}

type Tcb = NonNullable<Verdict["tcb"]>;

function patchLevel(tcb: Tcb): string {
  return "levelDate" in tcb ? `${tcb.status}, as of ${tcb.levelDate.slice(0, 10)}` : tcb.status;
}

/** `name`: what a screen reader calls the region, which scrolls and so takes the focus. */
function pairs(name: string, rows: Rows): HTMLElement {
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": name },
    h(
      "table",
      {},
      h(
        "tbody",
        {},
        ...rows.map(([name, value]) =>
          h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "mono" }, value))
        ),
      ),
    ),
  );
}

function eventLog(events: readonly RuntimeEvent[]): HTMLElement {
  const rows = events.map(({ event, payload }) => [event, readable(payload)] as const);
  return h(
    "details",
    {},
    h("summary", {}, `Runtime events (${events.length})`),
    pairs("Runtime events", rows),
  );
}

function registers({ measurements, reportData, evidenceDigest }: Verdict): HTMLElement {
  const rows: (readonly [string, string])[] = [
    ...Object.entries(measurements ?? {}),
    ["report_data", reportData ?? ""],
    ["evidence digest", evidenceDigest],
  ];
  return h("details", {}, h("summary", {}, "Registers"), pairs("Registers", rows));
}
