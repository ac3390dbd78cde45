import { encodeAttestationV1 } from "#core/attestation/attestation-v1.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { AppError } from "#core/errors/app-error.ts";
import { encodeEventLogJson, isRuntimeEvent, withPreimage } from "#core/event-log/tdx-event.ts";
import type { DstackGuest } from "#core/rpc/gen/agent_pb.ts";
import type { PrpcHandlers } from "#core/rpc/server.ts";
import type { Agent } from "./agent.ts";
import { appInfoMessage } from "./app-info-message.ts";
import { quoteEventLog } from "./agent.ts";
import { parseKeyAlgorithm } from "./app-key.ts";
import { isSignatureValid, parseSignatureAlgorithm, signData } from "./app-signature.ts";

/** Limits on what a caller may have put into a certificate. */
const MAX_ALT_NAMES = 100;
const MAX_NAME_LENGTH = 253;

/** DstackGuest on dstack.sock (guest-agent.md section 4): what the app's containers may ask. */
export function dstackGuestHandlers(agent: Agent): PrpcHandlers<typeof DstackGuest, undefined> {
  return {
    async getTlsKey(request) {
      checkNames([request.subject, ...request.altNames], request.altNames.length);
      const { keyPem, chain } = await agent.issueCertificate({
        subject: request.subject,
        altNames: request.altNames,
        serverAuth: request.usageServerAuth,
        clientAuth: request.usageClientAuth,
        includeAttestation: request.usageRaTls,
        includeAppInfo: request.withAppInfo,
        notBefore: request.notBefore,
        notAfter: request.notAfter,
      });
      return { key: keyPem, certificateChain: [...chain] };
    },

    getKey({ path, purpose, algorithm }) {
      const { key, signatureChain } = agent.deriveKey(path, purpose, parseKeyAlgorithm(algorithm));
      return { key, signatureChain: [...signatureChain] };
    },

    getQuote: ({ reportData }) => quoteResponse(agent, reportData),

    async attest({ reportData }) {
      const attestation = await agent.attest(reportData);
      const { platform } = attestation;
      if (platform.kind !== "tdx") throw new TypeError("Only TDX evidence is taken here");
      const eventLog = platform.eventLog.map((e) => isRuntimeEvent(e) ? withPreimage(e) : e);
      const filled = { ...attestation, platform: { ...platform, eventLog } };
      return { attestation: encodeAttestation(filled) };
    },

    info: () => appInfoMessage(agent, { showTcbInfo: true }),

    gpuInfo: async () => ({ attestation: await agent.gpuAttestation() }),

    /** Dropped by the reference; the SDKs that still call it expect 400 from a simulator. */
    emitEvent() {
      throw new AppError(
        "input/unsupported",
        agent.simulator
          ? "EmitEvent is unavailable in simulator mode"
          : "EmitEvent is unavailable: this guest's event log ends with its launch",
      );
    },

    sign({ algorithm, data }) {
      const signed = signData(agent.deriveKey, parseSignatureAlgorithm(algorithm), data);
      return { ...signed, signatureChain: [...signed.signatureChain] };
    },

    verify({ algorithm, data, signature, publicKey }) {
      const name = parseSignatureAlgorithm(algorithm);
      return { valid: isSignatureValid(name, data, signature, publicKey) };
    },

    version: () => agent.version,
  };
}

/** GetQuote's answer on a TDX platform: the attestation member stays empty and is left out. */
export async function quoteResponse(agent: Agent, reportData: Uint8Array) {
  if (reportData.length > 64) {
    throw new AppError("input/malformed", "Report data is too long: at most 64 bytes are allowed");
  }
  if (agent.simulator) return await simulatorQuoteResponse(agent, reportData);
  const [taken, eventLog] = await Promise.all([agent.quote(reportData), agent.tee.eventLog()]);
  return { ...taken, eventLog: quoteEventLog(eventLog), vmConfig: agent.vmConfig };
}

/** As the reference's simulator answers: everything, because its clients are tests. */
async function simulatorQuoteResponse(agent: Agent, reportData: Uint8Array) {
  const attestation = await agent.attest(reportData);
  const { platform, stack } = attestation;
  if (platform.kind !== "tdx") throw new TypeError("Only TDX evidence is taken here");
  return {
    quote: platform.quote,
    eventLog: encodeEventLogJson(platform.eventLog),
    reportData: stack.reportData,
    vmConfig: agent.vmConfig,
    attestation: encodeAttestationV1(attestation),
  };
}

export function checkNames(names: readonly string[], altNames: number): void {
  if (altNames > MAX_ALT_NAMES) {
    throw new AppError("input/too-large", `At most ${MAX_ALT_NAMES} alternative names are allowed`);
  }
  if (names.some((name) => name.length > MAX_NAME_LENGTH)) {
    throw new AppError("input/too-large", `Names may have ${MAX_NAME_LENGTH} characters`);
  }
}
