import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { DstackGuest } from "#core/rpc/gen/agent_pb.ts";
import { prpcClient } from "#core/rpc/client.ts";
import type { SelfAttestation } from "./ports.ts";

/** The guest agent of the CVM this KMS runs in, over its socket. */
export function guestAgent(fetch: FetchLike): SelfAttestation {
  const agent = prpcClient(DstackGuest, { baseUrl: "http://localhost", fetch });
  return {
    attest: async (reportData) => {
      const { attestation } = await agent.attest({ reportData });
      if (attestation.length === 0) {
        throw new AppError("upstream/invalid", "The guest agent answered without an attestation");
      }
      return attestation;
    },
    vmConfig: async () => (await agent.info()).vmConfig,
  };
}
