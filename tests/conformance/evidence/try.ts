import { conformanceCases } from "./cases.ts";
import { ourAnswer } from "./ours.ts";
let n = 0, bad = 0, ref = 0;
const ids = new Set();
for (const c of conformanceCases()) {
  n++;
  if (ids.has(c.id)) console.log("DUP", c.id);
  ids.add(c.id);
  if (c.expect.outcome === "refused") ref++;
  const a = await ourAnswer(c);
  const { id, ...rest } = a;
  const e = c.expect;
  if (JSON.stringify(Object.entries(rest).sort()) !== JSON.stringify(Object.entries(e).sort())) {
    bad++;
    console.log(c.id, "want", JSON.stringify(e), "got", JSON.stringify(rest));
  }
}
console.log(n, ref, bad);
