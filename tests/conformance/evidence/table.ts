import { conformanceCases } from "./cases.ts";
import { type Difference, judge } from "./judge.ts";
import { phalaAnswer, version } from "./phala-dcap-qvl.ts";

/** The differences as a Markdown table, one row a title, with the kinds of quote it happens to. */
export function tableOf(differences: readonly Difference[]): string {
  const rows = new Map<string, string[]>();
  for (const { case: { id, expect }, answer } of differences) {
    const [kind, group, title] = id.split("/") as [string, string, string];
    const must = expect.outcome === "refused" ? `refused: ${expect.reason}` : expect.outcome;
    const row = `| ${group}/${title} | ${must} | ${answer?.outcome ?? "no answer"}`;
    rows.set(row, [...rows.get(row) ?? [], kind]);
  }
  const lines = [...rows].map(([row, kinds]) => `${row} | ${kinds.join(", ")} |`);
  return ["| case | must be | is | quotes |", "|---|---|---|---|", ...lines, ""].join("\n");
}

/** What the JavaScript peer answers otherwise, of the cases any DCAP verifier can answer. */
export async function phalaTable(): Promise<string> {
  const cases = [...conformanceCases()].filter(({ kind }) => kind === "quote");
  const differences = await judge(cases, phalaAnswer, "outcome");
  const sum =
    `@phala/dcap-qvl ${version} answers ${differences.length} of ${cases.length} cases otherwise:`;
  return `${sum}\n\n${tableOf(differences)}`;
}
