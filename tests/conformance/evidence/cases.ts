import { caseOf } from "./case-spec.ts";
import type { ConformanceCase } from "./case.ts";
import { chainCases } from "./chain-cases.ts";
import { collateralCases } from "./collateral-cases.ts";
import { cvmCases } from "./cvm-cases.ts";
import { quoteCases } from "./quote-cases.ts";
import { SCENE_KINDS } from "./scene.ts";
import { tcbCases } from "./tcb-cases.ts";
import { vendorCases } from "./vendor-cases.ts";

const GROUPS = {
  quote: quoteCases,
  chain: chainCases,
  collateral: collateralCases,
  tcb: tcbCases,
} as const;

/** Every case, the same ones each time. */
export function* conformanceCases(): Generator<ConformanceCase> {
  for (const kind of SCENE_KINDS) {
    for (const [group, casesOf] of Object.entries(GROUPS)) {
      for (const spec of casesOf(kind)) yield caseOf(kind, group, spec);
    }
  }
  yield* cvmCases();
  yield* vendorCases();
}
