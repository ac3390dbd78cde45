import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { AppError } from "#core/errors/app-error.ts";
import { isClientAddress, nextFreeAddress, parseAddressPlan } from "./allocation.ts";

/** `core.wg` defaults (gateway.md 7.2). */
const DEFAULTS = {
  ip: "10.0.0.1/24",
  reservedNet: ["10.0.0.1/32"],
  clientIpRange: "10.0.0.0/25",
};

function refuses(config: typeof DEFAULTS, pattern: RegExp): void {
  assert.throws(
    () => parseAddressPlan(config),
    (e: unknown) => e instanceof AppError && e.code === "config/invalid" && pattern.test(e.message),
  );
}

test("with the defaults the first two clients are 10.0.0.2 and 10.0.0.3", () => {
  const plan = parseAddressPlan(DEFAULTS);
  assert.equal(nextFreeAddress(plan, new Set()), "10.0.0.2");
  assert.equal(nextFreeAddress(plan, new Set(["10.0.0.2"])), "10.0.0.3");
  assert.equal(nextFreeAddress(plan, new Set(["10.0.0.3"])), "10.0.0.2");
});

test("the broadcast address of the network and reserved networks are never handed out", () => {
  const plan = parseAddressPlan({
    ip: "10.8.0.1/29",
    reservedNet: ["10.8.0.0/30"],
    clientIpRange: "10.8.0.0/29",
  });
  const taken = new Set<string>();
  for (const expected of ["10.8.0.4", "10.8.0.5", "10.8.0.6"]) {
    assert.equal(nextFreeAddress(plan, taken), expected);
    taken.add(expected);
  }
  assert.throws(
    () => nextFreeAddress(plan, taken),
    (e: unknown) =>
      e instanceof AppError && e.code === "resource/exhausted" && /pool/.test(e.message),
  );
});

test("a wide reserved block is stepped over, not walked", () => {
  const plan = parseAddressPlan({
    ip: "10.0.0.1/8",
    reservedNet: ["10.0.0.0/9"],
    clientIpRange: "10.0.0.0/8",
  });
  assert.equal(nextFreeAddress(plan, new Set()), "10.128.0.0");
});

test("an address of another node's range is not valid here", () => {
  const plan = parseAddressPlan({
    ip: "10.8.64.1/16",
    reservedNet: ["10.8.64.1/32"],
    clientIpRange: "10.8.64.0/18",
  });
  assert.equal(isClientAddress(plan, "10.8.64.2"), true);
  assert.equal(isClientAddress(plan, "10.8.64.1"), false);
  assert.equal(isClientAddress(plan, "10.8.0.2"), false);
  assert.equal(isClientAddress(plan, "10.8.127.255"), false);
});

test("the three faults of the address plan are told apart", () => {
  refuses(
    { ...DEFAULTS, reservedNet: ["10.0.1.0/24"] },
    /reserved_net 10\.0\.1\.0\/24 is not inside/,
  );
  refuses({ ...DEFAULTS, reservedNet: ["10.0.0.8/32"] }, /core\.wg\.ip .* is not inside any/);
  refuses({ ...DEFAULTS, clientIpRange: "10.0.1.0/25" }, /client_ip_range .* is not inside/);
});

test("allocation hands out distinct valid addresses until the pool is empty", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 26, max: 30 }),
      fc.integer({ min: 28, max: 31 }),
      (wide, held) => {
        const plan = parseAddressPlan({
          ip: `10.1.0.1/${wide}`,
          reservedNet: [`10.1.0.0/${Math.max(held, wide)}`],
          clientIpRange: `10.1.0.0/${wide}`,
        });
        const taken = new Set<string>();
        for (;;) {
          let address: string;
          try {
            address = nextFreeAddress(plan, taken);
          } catch (e) {
            assert.ok(e instanceof AppError && e.code === "resource/exhausted");
            break;
          }
          assert.ok(!taken.has(address) && isClientAddress(plan, address));
          taken.add(address);
        }
        // A /n network has 2^(32-n) - 2 hosts; the reserved block and .1 take theirs away.
        const hosts = 2 ** (32 - wide) - 2;
        assert.ok(taken.size <= hosts - 1);
      },
    ),
  );
});
