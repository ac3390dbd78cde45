import type { Context, ErrorHandler, NotFoundHandler } from "hono";
import { HTTPException } from "hono/http-exception";
import type { ZodError } from "zod";
import { AppError } from "../errors/app-error.ts";
import { type Problem, problemOf } from "../errors/problem.ts";

/** For `app.onError`: every failure as RFC 9457 problem+json. What was not expected is logged, not shown. */
export function problemHandler(logError: (error: unknown, c: Context) => void): ErrorHandler {
  return (error, c) => {
    if (error instanceof HTTPException) {
      return problemReply({
        type: "about:blank",
        title: error.message || "Request refused",
        status: error.status,
        detail: error.message,
      });
    }
    if (!(error instanceof AppError) || error.status >= 500) logError(error, c);
    return problemReply(problemOf(error));
  };
}

/** For `app.notFound`. */
export const problemNotFound: NotFoundHandler = (c) =>
  problemReply(
    problemOf(new AppError("resource/not-found", `No ${c.req.method} ${c.req.path} here`)),
  );

/**
 * For `new OpenAPIHono({ defaultHook })`: input that does not fit its schema is `input/malformed`, with
 * one entry a fault in `faults`.
 */
export function refuseInvalidInput(
  result: { success: true } | { success: false; error: ZodError },
): void {
  if (result.success) return;
  const faults = result.error.issues.map(({ path, message }) => ({
    path: path.join("."),
    message,
  }));
  const detail = faults.map(({ path, message }) => path === "" ? message : `${path}: ${message}`);
  throw new AppError("input/malformed", `Cannot accept input: ${detail.join("; ")}`, {
    fields: { faults },
  });
}

function problemReply(problem: Problem): Response {
  return new Response(JSON.stringify(problem), {
    status: problem.status,
    headers: { "content-type": "application/problem+json" },
  });
}
