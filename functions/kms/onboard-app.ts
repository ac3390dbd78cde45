import { Hono } from "hono";
import { problemHandler, problemNotFound } from "#core/http/problem.ts";
import { appVersionHeader, operationsRoutes } from "#core/http/operations.ts";
import type { AppVersion } from "#core/http/operations.ts";
import { Onboard } from "#core/rpc/gen/kms_pb.ts";
import { prpcRoutes } from "#core/rpc/server.ts";
import { bootstrap } from "./bootstrap.ts";
import { attestationInfo } from "./attestation-info.ts";
import { onboardFrom, type OnboardingPorts } from "./onboard.ts";

export interface OnboardPorts extends OnboardingPorts {
  readonly version: AppVersion;
  /** The operator is done: the caller ends this server once the answer is out. */
  readonly finish: () => void;
}

/**
 * The plain-HTTP server of a KMS that has no keys yet (kms.md 2.3). Whoever reaches it may bootstrap,
 * so it ends with Finish; what a stranger bootstraps no allowlist and no app trusts.
 */
export function createOnboardApp(ports: OnboardPorts): Hono {
  const app = new Hono();
  let lock: Promise<unknown> = Promise.resolve();
  /** Keys are made or taken over by one call at a time. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = lock.then(work);
    lock = done.catch(() => {}); // the caller gets the failure, the next one its turn
    return done;
  };
  const routes = prpcRoutes(Onboard, {
    bootstrap: ({ domain }) =>
      inTurn(async () => {
        const made = await bootstrap(ports, ports.files, domain);
        return {
          caPubkey: made.caPublicKey,
          k256Pubkey: made.k256PublicKey,
          attestation: made.attestation ?? new Uint8Array(),
        };
      }),
    onboard: (request) => inTurn(async () => ({ k256Pubkey: await onboardFrom(ports, request) })),
    getAttestationInfo: () => attestationInfo(ports),
    finish: () => {
      ports.finish();
      return {};
    },
  }, { trim: "Onboard.", context: () => undefined });

  app.onError(problemHandler((error) => ports.log.error("onboarding", error)));
  app.notFound(problemNotFound);
  app.use(appVersionHeader(ports.version));
  app.route("/", operationsRoutes({ version: ports.version }));
  app.get("/health", (c) => c.text("OK"));
  app.get("/finish", (c) => {
    ports.finish();
    return c.text("OK");
  });
  app.route("/prpc", routes);
  return app;
}
