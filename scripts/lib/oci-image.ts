/**
 * One-layer OCI images (image-spec 1.1) and their way into a registry (distribution-spec 1.1): what the
 * demo needs to serve its own app image where no public registry is in reach.
 */
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";

export interface OciImage {
  /** `sha256:<hex>` of the manifest: what a compose file pins. */
  readonly digest: string;
  readonly manifest: Uint8Array;
  /** Config and layer, by digest. */
  readonly blobs: ReadonlyMap<string, Uint8Array>;
}

export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly cmd?: readonly string[];
  readonly env?: readonly string[];
  readonly exposedPorts?: readonly number[];
}

const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
const digestOf = (bytes: Uint8Array) =>
  `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

/** The same tar and configuration give the same digest, on every machine. */
export function createOciImage(layerTar: Uint8Array, config: ImageConfig): OciImage {
  const layer = gzipSync(layerTar, { level: 9 });
  const configBlob = json({
    architecture: "amd64",
    os: "linux",
    created: "1970-01-01T00:00:00Z",
    config: {
      Entrypoint: config.entrypoint,
      Cmd: config.cmd ?? [],
      Env: config.env ?? ["PATH=/usr/bin:/bin"],
      ExposedPorts: Object.fromEntries((config.exposedPorts ?? []).map((p) => [`${p}/tcp`, {}])),
    },
    rootfs: { type: "layers", diff_ids: [digestOf(layerTar)] },
  });
  const manifest = json({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: {
      mediaType: "application/vnd.oci.image.config.v1+json",
      digest: digestOf(configBlob),
      size: configBlob.length,
    },
    layers: [{
      mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
      digest: digestOf(layer),
      size: layer.length,
    }],
  });
  return {
    digest: digestOf(manifest),
    manifest,
    blobs: new Map([[digestOf(configBlob), configBlob], [digestOf(layer), layer]]),
  };
}

/** Uploads what the registry at `registryUrl` lacks, then names the manifest `repository:tag`. */
export async function pushOciImage(
  registryUrl: string,
  repository: string,
  tag: string,
  image: OciImage,
): Promise<void> {
  const base = `${registryUrl}/v2/${repository}`;
  for (const [digest, blob] of image.blobs) {
    if ((await fetch(`${base}/blobs/${digest}`, { method: "HEAD" })).ok) continue;
    const started = await expect(202, `${base}/blobs/uploads/`, { method: "POST" });
    const location = new URL(started.headers.get("location") ?? "", registryUrl);
    location.searchParams.set("digest", digest);
    await expect(201, location.href, {
      method: "PUT",
      headers: { "content-type": "application/octet-stream" },
      body: blob as BodyInit,
    });
  }
  await expect(201, `${base}/manifests/${tag}`, {
    method: "PUT",
    headers: { "content-type": MANIFEST_TYPE },
    body: image.manifest as BodyInit,
  });
}

async function expect(status: number, url: string, init: RequestInit): Promise<Response> {
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(60_000) });
  if (response.status !== status) {
    throw new Error(
      `${init.method} ${url} answered ${response.status}: ${(await response.text()).slice(0, 300)}`,
    );
  }
  return response;
}
