import { AppError } from "#core/errors/app-error.ts";

export interface PortMapping {
  readonly protocol: "tcp" | "udp";
  /** An IPv4 or IPv6 address of this host. */
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly vmPort: number;
}

/** `[cvm.port_mapping]`; ranges are inclusive. */
export interface PortPolicy {
  readonly enabled: boolean;
  readonly address: string;
  readonly ranges: readonly {
    readonly protocol: "tcp" | "udp";
    readonly from: number;
    readonly to: number;
  }[];
}

export interface PortRequest {
  readonly protocol: string;
  readonly hostPort: number;
  readonly vmPort: number;
  readonly hostAddress: string;
}

/** Checks one request's mappings against the node's policy and each other (spec/vmm.md section 3.3). */
export function parsePortMappings(
  requests: readonly PortRequest[],
  policy: PortPolicy,
): PortMapping[] {
  if (requests.length > 0 && !policy.enabled) {
    throw new AppError("input/unsupported", "Port mapping is disabled");
  }
  const mappings: PortMapping[] = [];
  for (const request of requests) {
    const mapping = parseOne(request, policy);
    const twin = mappings.find((other) => overlaps(mapping, other));
    if (twin !== undefined) {
      throw new AppError("resource/conflict", `duplicate host port mapping: ${show(mapping)}`);
    }
    mappings.push(mapping);
  }
  return mappings;
}

function parseOne(request: PortRequest, policy: PortPolicy): PortMapping {
  const { protocol, hostPort, vmPort } = request;
  if (!isPort(hostPort)) throw new AppError("input/malformed", "Invalid host port");
  if (!isPort(vmPort)) throw new AppError("input/malformed", "Invalid vm port");
  if (protocol !== "tcp" && protocol !== "udp") {
    throw new AppError("input/malformed", `Invalid protocol: ${protocol.slice(0, 20)}`);
  }
  const allowed = policy.ranges.some((range) =>
    range.protocol === protocol && hostPort >= range.from && hostPort <= range.to
  );
  if (!allowed) {
    throw new AppError("auth/forbidden", `Port mapping is not allowed for ${protocol}:${hostPort}`);
  }
  const hostAddress = request.hostAddress === "" ? policy.address : request.hostAddress;
  if (!isIpAddress(hostAddress)) throw new AppError("input/malformed", "Invalid host address");
  return { protocol, hostAddress, hostPort, vmPort };
}

export function requireNoConflict(
  mappings: readonly PortMapping[],
  others: readonly { readonly id: string; readonly portMappings: readonly PortMapping[] }[],
): void {
  for (const other of others) {
    for (const mapping of mappings) {
      if (other.portMappings.some((theirs) => overlaps(mapping, theirs))) {
        throw new AppError(
          "host/port-taken",
          `host port mapping conflicts with VM ${other.id}: ${show(mapping)}`,
        );
      }
    }
  }
}

/** Same protocol and port on equal addresses, or on any address when one is unspecified. */
function overlaps(a: PortMapping, b: PortMapping): boolean {
  return a.protocol === b.protocol && a.hostPort === b.hostPort &&
    (a.hostAddress === b.hostAddress || isUnspecified(a) || isUnspecified(b));
}

function isUnspecified({ hostAddress }: PortMapping): boolean {
  return hostAddress === "0.0.0.0" || hostAddress === "::";
}

export function show({ protocol, hostAddress, hostPort, vmPort }: PortMapping): string {
  return `${protocol}:${hostAddress}:${hostPort}->${vmPort}`;
}

function isPort(value: number): boolean {
  return Number.isInteger(value) && value > 0 && value <= 0xffff;
}

/** Dotted IPv4 or IPv6 in text form, without zone. */
export function isIpAddress(text: string): boolean {
  const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (v4 !== null) return v4.slice(1).every((part) => Number(part) <= 255);
  return /^[0-9a-fA-F:]{2,39}$/.test(text) && URL.canParse(`http://[${text}]/`);
}
