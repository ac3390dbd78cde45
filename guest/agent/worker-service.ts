import type { Worker } from "#core/rpc/gen/agent_pb.ts";
import type { PrpcHandlers } from "#core/rpc/server.ts";
import type { Agent } from "./agent.ts";
import { appInfoMessage } from "./app-info-message.ts";
import { appKeyReportData } from "./app-key-binding.ts";
import { quoteResponse } from "./dstack-guest-service.ts";

/** Worker on port 8090: anyone may ask, so nothing secret is here (guest-agent.md 6.1). */
export function workerHandlers(agent: Agent): PrpcHandlers<typeof Worker, undefined> {
  return {
    info: () => appInfoMessage(agent, { showTcbInfo: agent.compose.publicTcbinfo }),
    version: () => agent.version,
    getAttestationForAppKey: ({ algorithm }) =>
      quoteResponse(agent, appKeyReportData(agent, algorithm)),
  };
}
