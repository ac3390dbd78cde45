import {
  isReportDataAlgorithm,
  reportData as taggedReportData,
} from "#core/attestation/report-data.ts";
import { deriveP256 } from "#core/crypto/kdf.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { Tappd } from "#core/rpc/gen/agent_pb.ts";
import type { PrpcHandlers } from "#core/rpc/server.ts";
import type { Agent } from "./agent.ts";
import { appInfoMessage } from "./app-info-message.ts";
import { parseKeyAlgorithm } from "./app-key.ts";
import { checkNames, quoteResponse } from "./dstack-guest-service.ts";

const DEFAULT_TAG = "app-data";

/** The older service on tappd.sock (guest-agent.md section 5). */
export function tappdHandlers(agent: Agent): PrpcHandlers<typeof Tappd, undefined> {
  async function tdxQuote(content: Uint8Array, hashAlgorithm: string, prefix: string) {
    if (!isReportDataAlgorithm(hashAlgorithm)) {
      throw new AppError("input/unsupported", "invalid hash algorithm");
    }
    const raw = hashAlgorithm === "raw";
    if (raw && content.length !== 64) {
      throw new AppError("input/malformed", "invalid content length: raw needs 64 bytes");
    }
    const tag = prefix || DEFAULT_TAG;
    const bound = taggedReportData(tag, content, hashAlgorithm);
    const { quote, eventLog } = await quoteResponse(agent, bound);
    return { quote, eventLog, hashAlgorithm: hashAlgorithm || "sha512", prefix: raw ? "" : tag };
  }

  return {
    async deriveKey(request) {
      checkNames([request.subject, ...request.altNames], request.altNames.length);
      const root = request.randomSeed
        ? crypto.getRandomValues(new Uint8Array(32))
        : agent.keys.k256Key;
      const { keyPem, chain } = await agent.issueCertificate({
        subject: request.subject,
        altNames: request.altNames,
        serverAuth: request.usageServerAuth,
        clientAuth: request.usageClientAuth,
        includeAttestation: request.usageRaTls,
        includeAppInfo: false,
      }, deriveP256(root, [request.path]));
      return { key: keyPem, certificateChain: [...chain] };
    },
    deriveK256Key({ path, purpose, algorithm }) {
      const { key, signatureChain } = agent.deriveKey(path, purpose, parseKeyAlgorithm(algorithm));
      return { k256Key: key, k256SignatureChain: [...signatureChain] };
    },
    tdxQuote: ({ reportData, hashAlgorithm, prefix }) =>
      tdxQuote(reportData, hashAlgorithm, prefix),
    rawQuote: ({ reportData }) => tdxQuote(reportData, "raw", ""),
    info: () => appInfoMessage(agent, { showTcbInfo: true }),
    version: () => agent.version,
  };
}
