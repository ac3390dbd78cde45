import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../bytes/bytes.ts";
import { parseIpAddress } from "./ip-address.ts";

test("IP literals become their bytes", () => {
  const cases = {
    "10.0.2.2": "0a000202",
    "::": "0".repeat(32),
    "::1": `${"0".repeat(31)}1`,
    "2001:db8::1": "20010db8000000000000000000000001",
    "1:2:3:4:5:6:7:8": "00010002000300040005000600070008",
    "1:2:3:4:5:6:7::": "00010002000300040005000600070000",
    "::ffff:10.0.2.2": "00000000000000000000ffff0a000202",
  };
  for (const [text, hex] of Object.entries(cases)) {
    assert.equal(toHex(parseIpAddress(text)!), hex, text);
  }
});

test("names are no addresses", () => {
  const names = ["", "a.b.c.d", "1.2.3", "1.2.3.256", "01.2.3.4", "1:2:3:4:5:6:7:8:9", "::1::"];
  for (
    const name of [...names, "12345::", "1:2:3:4:5:6:7:8::", "fe80::1%eth0", "[::1]", "1.2.3.4::"]
  ) {
    assert.equal(parseIpAddress(name), undefined, name);
  }
});
