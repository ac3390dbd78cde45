import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import { makeWebFetch } from "#adapters/web-fetch.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { BoundEvidence } from "#core/ra-tls/peer.ts";
import type { KmsTrust } from "../boot/kms-client.ts";
import type { KernelParameters } from "../boot/kernel-parameters.ts";
import type { SysConfig } from "../boot/sys-config.ts";

declare const __SIM_TEE__: boolean | undefined;

/**
 * How the guest talks to a KMS. Its evidence, where it shows any, is appraised under Intel's root; a
 * guest whose own TEE is simulated also takes the root of that simulation.
 */
export function kmsTrust(
  parameters: Pick<KernelParameters, "tee">,
  config: SysConfig,
): KmsTrust {
  return {
    makeTlsFetch,
    async verifyKmsEvidence(evidence: BoundEvidence) {
      // Loaded on use: most KMS show no evidence in their certificate, and a boot counts in seconds.
      const [{ verifyKmsEvidence }, { INTEL_TRUST_ANCHOR, parseTrustAnchor }] = await Promise.all([
        import("../kms-evidence.ts"),
        import("#core/attestation/trust-anchor.ts"),
      ]);
      const trustAnchors = [INTEL_TRUST_ANCHOR];
      const web = makeWebFetch();
      if (typeof __SIM_TEE__ === "undefined" || __SIM_TEE__) {
        if (parameters.tee === "sim" && config.hostApiUrl !== undefined) {
          const url = `${new URL(config.hostApiUrl).origin}/v1/tee/root.pem`;
          const response = await web(url, {
            method: "GET",
            headers: { authorization: `Bearer ${config.hostApiToken ?? ""}` },
          });
          if (!response.ok) throw new AppError("guest/tee", "The simulated TEE shows no root");
          const pem = await response.text();
          trustAnchors.push(parseTrustAnchor("simulated-tee", pem, { simulated: true }));
        }
      }
      await verifyKmsEvidence(evidence, {
        pccsUrl: config.pccsUrl,
        fetch: web,
        trustAnchors,
        now: () => new Date(),
      });
    },
  };
}
