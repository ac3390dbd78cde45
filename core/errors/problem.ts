import { AppError } from "./app-error.ts";

/** RFC 9457 problem details, as every `/v1` endpoint answers an error. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  [member: string]: unknown;
}

/** What may leave the process about `error`: an unexpected failure shows neither message nor cause. */
export function problemOf(error: unknown): Problem {
  const known = error instanceof AppError ? error : new AppError("internal", "Unexpected failure");
  return {
    ...known.fields,
    type: `urn:dstack-edge:error:${known.code}`,
    title: known.title,
    status: known.status,
    detail: known.message,
  };
}

export function problemResponse(error: unknown): Response {
  const problem = problemOf(error);
  return new Response(JSON.stringify(problem), {
    status: problem.status,
    headers: { "content-type": "application/problem+json" },
  });
}
