import { type AppInfo, appInfoOf } from "#core/attestation/app-info.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { paddedReportData } from "#core/attestation/report-data.ts";
import { tdReportOf } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import type { AppCompose } from "#core/compose/app-compose.ts";
import { errorChain } from "#core/errors/app-error.ts";
import { isRuntimeEvent, type TdxEvent, tdxEventToJson } from "#core/event-log/tdx-event.ts";
import type { AppVersion } from "#core/http/operations.ts";
import { parseQuote } from "#core/tdx/quote.ts";
import type { AppKeys } from "../boot/app-keys.ts";
import type { IssueCertificate } from "../certificate-issuer.ts";
import type { Log } from "../ports.ts";
import { attest } from "../tee/attest.ts";
import type { Tee } from "../tee/tee.ts";
import { createAppKeyDerivation, type DeriveAppKey } from "./app-key.ts";

/** What the agent's services are made of; everything is fixed once setup has ended. */
export interface AgentPorts {
  readonly tee: Tee;
  readonly keys: AppKeys;
  readonly compose: AppCompose;
  /** app-compose.json as measured. */
  readonly composeText: string;
  /** The host's text. */
  readonly vmConfig: string;
  /** What attestations carry as their configuration; the host's text unless a recording says otherwise. */
  readonly attestedConfig?: string;
  /** Answers of the reference's simulator: GetQuote has the whole event log, and an attestation too. */
  readonly simulator?: boolean;
  readonly issueCertificate: IssueCertificate;
  /** What nvattest said at boot, as it wrote it; empty without a GPU. */
  readonly gpuAttestation: () => Promise<string>;
  readonly version: AppVersion;
  /** What the firmware calls the machine; empty when it does not say. */
  readonly cloud: { readonly vendor: string; readonly product: string };
  readonly log: Log;
}

/** What Info answers, before it is encoded. */
export interface AppDescription {
  readonly info: AppInfo;
  /** Pretty JSON, as `tcb_info` holds it. */
  readonly tcbInfo: string;
}

/** The agent's state and the operations its services share. */
export interface Agent extends AgentPorts {
  readonly deriveKey: DeriveAppKey;
  /** From a quote that is taken again only when an event was added: Info must be cheap. */
  describe(): Promise<AppDescription>;
  /** At most 64 bytes of report data, zeros to 64. */
  quote(reportData: Uint8Array): Promise<{ quote: Uint8Array; reportData: Uint8Array }>;
  attest(reportData: Uint8Array): Promise<Attestation>;
  /** PEM chain of a certificate for showing; empty until it could be issued. */
  demoCertificate(): string;
}

export function createAgent(ports: AgentPorts): Agent {
  const { tee } = ports;
  const config = ports.attestedConfig ?? ports.vmConfig;
  let described: { events: number; description: Promise<AppDescription> } | undefined;
  let demo: { chain: string } | undefined;

  async function takeDescription(): Promise<AppDescription> {
    const attestation = await attest(tee, new Uint8Array(64), config);
    const info = appInfoOf(attestation);
    return { info, tcbInfo: renderTcbInfo(attestation, info, ports.composeText) };
  }

  /** One attempt at a time; the next Info tries again after a failure. */
  function requestDemoCertificate(): void {
    const attempt = demo = { chain: "" };
    ports.issueCertificate({
      subject: "demo-cert",
      altNames: [],
      serverAuth: false,
      clientAuth: true,
      includeAttestation: true,
      includeAppInfo: false,
    }).then(({ chain }) => {
      attempt.chain = chain.join("\n");
    }).catch((error) => {
      demo = undefined;
      ports.log("demo certificate was not issued", { error: errorChain(error) });
    });
  }

  return {
    ...ports,
    deriveKey: createAppKeyDerivation(ports.keys),
    async describe() {
      const events = (await tee.runtimeEvents()).length;
      if (described?.events !== events) {
        const description = takeDescription();
        described = { events, description };
        description.catch(() => (described = undefined));
      }
      return await described.description;
    },
    async quote(reportData) {
      const padded = paddedReportData(reportData);
      return { quote: await tee.quote(padded), reportData: padded };
    },
    attest: (reportData) => attest(tee, paddedReportData(reportData), config),
    demoCertificate() {
      if (demo === undefined) requestDemoCertificate();
      return demo?.chain ?? "";
    },
  };
}

/** Info's `tcb_info` (guest-agent.md 4.5). */
function renderTcbInfo(attestation: Attestation, info: AppInfo, composeText: string): string {
  const { platform } = attestation;
  if (platform.kind !== "tdx") throw new TypeError("Only TDX evidence is taken here");
  const td = tdReportOf(parseQuote(platform.quote));
  const [rtmr0, rtmr1, rtmr2, rtmr3] = td.rtmrs;
  return JSON.stringify(
    {
      mrtd: toHex(td.mrTd),
      rtmr0: toHex(rtmr0),
      rtmr1: toHex(rtmr1),
      rtmr2: toHex(rtmr2),
      rtmr3: toHex(rtmr3),
      mr_aggregated: toHex(info.mrAggregated),
      os_image_hash: toHex(info.osImageHash),
      compose_hash: toHex(info.composeHash),
      device_id: toHex(info.deviceId),
      event_log: platform.eventLog.map(tdxEventToJson),
      app_compose: composeText,
    },
    null,
    2,
  );
}

/**
 * The event log of GetQuote: payloads of boot events are left out but for the ACPI markers. Digests of
 * runtime events stay, though verifiers recompute them: older SDKs replay what they are given.
 */
export function quoteEventLog(log: readonly TdxEvent[]): string {
  return JSON.stringify(log.map((event) => {
    const json = tdxEventToJson(event);
    const keepsPayload = isRuntimeEvent(event) || event.event.startsWith("acpi-");
    return keepsPayload ? json : { ...json, event_payload: "" };
  }));
}
