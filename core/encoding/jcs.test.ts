import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalJson } from "./jcs.ts";

test("members are sorted and blanks dropped, as the example of RFC 8785 section 3.2", () => {
  const input = JSON.parse(
    '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],' +
      '"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}',
  );
  assert.equal(
    canonicalJson(input),
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],' +
      '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
  );
});

test("names are ordered by UTF-16 code units (RFC 8785 section 3.2.3)", () => {
  const sorted = canonicalJson({
    "\u20ac": 1,
    "\r": 2,
    "\ufb33": 3,
    "1": 4,
    "\u{1f600}": 5,
    "\u0080": 6,
    "\u00f6": 7,
  });
  assert.deepEqual(sorted.match(/\d(?=[,}])/g)!.map(Number), [2, 4, 6, 7, 1, 5, 3]);
});
