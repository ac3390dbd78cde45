import { toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import type { CertificateAppInfo } from "#core/ra-tls/app-info.ts";

/**
 * `core.auth`: the operator's webhook sees the app info of every CVM that registers (gateway.md 2.1).
 * Anything but a 2xx answer in time refuses the CVM.
 */
export function webhookAuthorization(
  { url, timeoutMs, fetch }: { url: string; timeoutMs: number; fetch: FetchLike },
): (appInfo: CertificateAppInfo) => Promise<void> {
  return async (appInfo) => {
    let status: number;
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(appInfoJson(appInfo)),
        signal: AbortSignal.timeout(timeoutMs),
      });
      status = response.status;
      await response.body?.cancel();
    } catch (cause) {
      throw new AppError("auth/forbidden", "App authorization failed", { cause });
    }
    if (status < 200 || status > 299) {
      throw new AppError("auth/forbidden", `App authorization failed: status ${status}`);
    }
  };
}

function appInfoJson(info: CertificateAppInfo): Record<string, unknown> {
  return {
    app_id: toHex(info.appId),
    compose_hash: toHex(info.composeHash),
    instance_id: toHex(info.instanceId),
    device_id: toHex(info.deviceId),
    mr_system: toHex(info.mrSystem),
    mr_aggregated: toHex(info.mrAggregated),
    os_image_hash: toHex(info.osImageHash),
    key_provider_info: toHex(info.keyProviderInfo),
  };
}
