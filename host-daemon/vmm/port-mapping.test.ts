import assert from "node:assert/strict";
import { test } from "node:test";
import { isIpAddress, parsePortMappings, requireNoConflict } from "./port-mapping.ts";

const POLICY = {
  enabled: true,
  address: "127.0.0.1",
  ranges: [{ protocol: "tcp" as const, from: 1, to: 20000 }],
};
const tcp = (hostPort: number, hostAddress = "") => ({
  protocol: "tcp",
  hostPort,
  vmPort: 80,
  hostAddress,
});

test("an empty address becomes the node's default", () => {
  assert.deepEqual(parsePortMappings([tcp(8080)], POLICY), [
    { protocol: "tcp", hostAddress: "127.0.0.1", hostPort: 8080, vmPort: 80 },
  ]);
});

const REFUSED: [string, ReturnType<typeof tcp>[], RegExp][] = [
  ["outside the range", [tcp(20001)], /Port mapping is not allowed for tcp:20001/],
  ["of a protocol without range", [{ ...tcp(53), protocol: "udp" }], /not allowed for udp:53/],
  ["of another protocol", [{ ...tcp(53), protocol: "sctp" }], /Invalid protocol/],
  ["with port 0", [tcp(0)], /Invalid host port/],
  ["beyond 16 bits", [{ ...tcp(80), vmPort: 65536 }], /Invalid vm port/],
  ["with a name for an address", [tcp(80, "localhost")], /Invalid host address/],
  ["with an option for an address", [tcp(80, "1.1.1.1,smb=/")], /Invalid host address/],
  ["twice, once on any address", [tcp(80), tcp(80, "0.0.0.0")], /duplicate host port mapping/],
];
for (const [what, requests, message] of REFUSED) {
  test(`a mapping ${what} is refused`, () => {
    assert.throws(() => parsePortMappings(requests, POLICY), { message });
  });
}

test("mapping while disabled is refused, no mapping is fine", () => {
  const off = { ...POLICY, enabled: false };
  assert.throws(() => parsePortMappings([tcp(80)], off), { message: "Port mapping is disabled" });
  assert.deepEqual(parsePortMappings([], off), []);
});

test("another VM's mapping conflicts whether that VM runs or not", () => {
  const [mapping] = parsePortMappings([tcp(80)], POLICY);
  const other = { id: "vm-2", portMappings: [{ ...mapping!, hostAddress: "::" }] };
  assert.throws(() => requireNoConflict([mapping!], [other]), {
    code: "host/port-taken",
    message: /conflicts with VM vm-2/,
  });
  requireNoConflict([mapping!], [{ ...other, portMappings: [{ ...mapping!, hostPort: 81 }] }]);
  requireNoConflict([mapping!], [{
    ...other,
    portMappings: [{ ...mapping!, hostAddress: "127.0.0.2" }],
  }]);
});

test("addresses are IPv4 or IPv6 literals", () => {
  for (const good of ["0.0.0.0", "255.255.255.255", "::", "fe80::1"]) assert.ok(isIpAddress(good));
  for (const bad of ["256.1.1.1", "1.2.3", "", ":::", "fe80::1%eth0"]) assert.ok(!isIpAddress(bad));
});
