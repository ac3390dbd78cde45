import { Hono } from "hono";
import { cors } from "hono/cors";
import { appraise, type BareQuote } from "#core/attestation/appraise.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { encodeVerdict, type Verdict } from "#core/attestation/verdict.ts";
import { AppError } from "#core/errors/app-error.ts";
import { readBounded } from "#core/http/bounded-stream.ts";
import { appVersionHeader, operationsRoutes } from "#core/http/operations.ts";
import { problemHandler, problemNotFound } from "#core/http/problem.ts";
import { collateralToJson, type QuoteCollateral } from "#core/tdx/collateral.ts";
import { parseQuote } from "#core/tdx/quote.ts";
import { verifierOpenApi } from "./openapi.ts";
import type { AppraisalPorts, VerifierPorts } from "./ports.ts";
import { answerReference, REFERENCE_POLICY } from "./reference-api.ts";
import {
  MAX_REQUEST_BYTES,
  parseQuoteRequest,
  parseVerificationRequest,
  type VerificationRequest,
} from "./request.ts";

/**
 * The verifier: evidence in, verdict out, nothing kept. Answers 200 with a verdict for evidence that is
 * accepted or refused, and a problem for a request it cannot read or collateral it cannot get.
 */
export function createVerifierApp(ports: VerifierPorts): Hono {
  const { version, metrics, page } = ports;
  const verdicts = metrics.counter({
    name: "dstack_verifier_verdicts_total",
    help: "Verdicts given",
    labels: ["outcome", "reason", "simulated"],
  });
  const app = new Hono();
  app.onError(problemHandler(ports.logError));
  app.notFound(problemNotFound);
  app.use(appVersionHeader(version));
  app.route("/", operationsRoutes({ version, metrics }));
  app.get("/openapi.json", (c) => c.json(verifierOpenApi(version.version)));
  // Whoever may call may do so from any page: there are no cookies and no secrets to borrow.
  app.use("/v1/*", cors({ origin: "*", allowMethods: ["POST"], maxAge: 86_400 }));

  const judge = async (request: Judged): Promise<Verdict> => {
    const verdict = await appraiseWith(ports, request);
    const { outcome, reason, simulated } = verdict;
    verdicts.add(1, { outcome, reason: reason?.code ?? "", simulated: String(simulated) });
    ports.logVerdict(verdict);
    return verdict;
  };

  app.post("/v1/verify", async (c) => {
    const verdict = await judge(parseVerificationRequest(await readBody(c.req.raw)));
    return c.body(encodeVerdict(verdict), 200, { "content-type": "application/json" });
  });

  // The reference verifier's own interface: whoever calls it finds ours in its place.
  app.get("/health", (c) => c.json({ status: "ok", service: "dstack-verifier" }));
  app.post("/verify", async (c) =>
    c.json(
      await answerReference(
        await readBody(c.req.raw),
        (attestation) => judge({ attestation, policy: REFERENCE_POLICY }),
        ports.registersOf,
      ),
    ));

  app.post("/v1/collateral", async (c) => {
    const quote = parseQuote(parseQuoteRequest(await readBody(c.req.raw)));
    return c.json(collateralToJson(await ports.collateralFor(quote)));
  });

  if (page !== undefined) {
    app.get("/", (c) => c.html(page, 200, PAGE_HEADERS));
  }
  return app;
}

type Judged =
  & Pick<VerificationRequest, "attestation" | "policy">
  & Partial<VerificationRequest>;

/** Appraises with what the service has: its roots, and what it fetches that the request lacks. */
export async function appraiseWith(ports: AppraisalPorts, request: Judged): Promise<Verdict> {
  const { attestation, time, collateral } = request;
  const vendorDocuments = request.vendorDocuments ??
    ("platform" in attestation ? await ports.vendorDocumentsFor(attestation) : undefined);
  const { registersOf } = ports;
  return await appraise({
    ...request,
    reference: { ...(registersOf && { registersOf }), ...request.reference },
    now: time ?? ports.now(),
    collateral: collateral ?? await collateralOf(attestation, ports),
    ...(vendorDocuments && { vendorDocuments }),
    trustAnchors: ports.trustAnchors,
    crypto: ports.crypto,
    endorsements: ports.endorsements,
  });
}

/** The page's own policy stands in its head, so that it holds for a saved copy as well. */
const PAGE_HEADERS = {
  "content-security-policy": "frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cross-origin-opener-policy": "same-origin",
};

function readBody(request: Request): Promise<Uint8Array> {
  return readBounded(request.body, MAX_REQUEST_BYTES, () => {
    const limit = `${MAX_REQUEST_BYTES / 1024 / 1024} MiB`;
    return new AppError("input/too-large", `A request has ${limit} at most`);
  });
}

/** Undefined for evidence whose quote cannot be read: the verdict says what is wrong with it. */
async function collateralOf(
  attestation: Attestation | BareQuote,
  { collateralFor }: AppraisalPorts,
): Promise<QuoteCollateral | undefined> {
  const { quote } = "quote" in attestation
    ? attestation
    : attestation.platform as { quote?: Uint8Array };
  if (quote === undefined) return undefined;
  try {
    return await collateralFor(parseQuote(quote));
  } catch (error) {
    if (error instanceof AppError && error.code.startsWith("input/")) return undefined;
    throw error;
  }
}
