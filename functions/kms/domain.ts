import { AppError } from "#core/errors/app-error.ts";
import { parseIpAddress } from "#core/ra-tls/ip-address.ts";

/** The name of a KMS: DNS labels of letters, digits and inner hyphens, or an IP literal. */
export function parseDomain(text: string): string {
  const isName = text.length <= 253 &&
    text.split(".").every((label) => /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/.test(label));
  if (!isName && parseIpAddress(text) === undefined) {
    throw new AppError("input/malformed", "Invalid domain: expected a DNS name or an IP address");
  }
  return text;
}
