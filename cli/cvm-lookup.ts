import type { components } from "#openapi/dstackd.ts";
import { AppError } from "#core/errors/app-error.ts";
import { dataOf, type DstackdClient } from "./context.ts";

export type Cvm = components["schemas"]["Cvm"];

export async function listCvms(client: DstackdClient): Promise<Cvm[]> {
  return dataOf(await client.GET("/v1/cvms")).cvms;
}

/** Finds a CVM by its id, the beginning of it, its name, app id or instance id. */
export async function findCvm(client: DstackdClient, wanted: string): Promise<Cvm> {
  const cvms = await listCvms(client);
  const exact = cvms.filter((cvm) =>
    [cvm.id, cvm.name, cvm.appId, cvm.instanceId].includes(wanted) && wanted !== ""
  );
  const found = exact.length > 0 ? exact : cvms.filter((cvm) => cvm.id.startsWith(wanted));
  if (found.length === 1) return found[0]!;
  if (found.length === 0) {
    throw new AppError("resource/not-found", `No CVM '${wanted}'; 'dstack ps' lists them`);
  }
  const ids = found.map(({ id }) => id).join(", ");
  throw new AppError(
    "resource/conflict",
    `'${wanted}' names ${found.length} CVMs; say which: ${ids}`,
  );
}
