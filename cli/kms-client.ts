import createClient, { type Client } from "openapi-fetch";
import type { paths as AdminPaths } from "#openapi/kms-admin.ts";
import type { paths } from "#openapi/kms.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import type { CliPorts } from "./context.ts";
import { readInputText } from "./input-file.ts";

export type KmsClient = Client<paths>;
export type KmsAdminClient = Client<AdminPaths>;

/** How commands name a KMS. */
export interface KmsOptions {
  readonly kms?: string;
  readonly kmsCa?: string;
}

/** How commands name the operator's listener of a KMS. */
export interface KmsAdminOptions {
  readonly admin?: string;
  readonly adminTokenFile?: string;
}

/** A client of the KMS at `--kms` (DSTACK_KMS), which must have a certificate under `--kms-ca`. */
export async function kmsClient(options: KmsOptions, ports: CliPorts): Promise<KmsClient> {
  const url = options.kms ?? ports.env["DSTACK_KMS"];
  if (url === undefined || !url.startsWith("https://")) {
    throw new AppError("input/malformed", "--kms (or DSTACK_KMS) takes the KMS's https URL");
  }
  const caPem = options.kmsCa === undefined ? undefined : await readInputText(options.kmsCa, ports);
  return clientOf<paths>(url, ports.tlsFetch(caPem), {});
}

/** A client of the admin listener at `--admin` (DSTACK_KMS_ADMIN). */
export async function kmsAdminClient(
  options: KmsAdminOptions,
  ports: CliPorts,
): Promise<KmsAdminClient> {
  const url = options.admin ?? ports.env["DSTACK_KMS_ADMIN"];
  if (url === undefined || !/^https?:\/\//.test(url)) {
    throw new AppError("input/malformed", "--admin (or DSTACK_KMS_ADMIN) takes an http(s) URL");
  }
  const token = options.adminTokenFile === undefined
    ? ports.env["DSTACK_KMS_ADMIN_TOKEN"]
    : (await readInputText(options.adminTokenFile, ports)).trim();
  const headers: Record<string, string> = token === undefined
    ? {}
    : { authorization: `Bearer ${token}` };
  return clientOf<AdminPaths>(url, ports.fetch, headers);
}

function clientOf<P extends object>(
  url: string,
  send: FetchLike,
  headers: Record<string, string>,
): Client<P> {
  return createClient<P>({
    baseUrl: url.replace(/\/+$/, ""),
    headers: { ...headers, "content-type": "application/json" },
    fetch: async (request) => {
      const body = new Uint8Array(await request.arrayBuffer());
      return await send(request.url, {
        method: request.method,
        headers: Object.fromEntries(request.headers),
        ...(body.length > 0 && { body }),
        signal: request.signal,
      });
    },
  });
}
