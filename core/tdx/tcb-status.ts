/** Intel's TCB status words, mildest first: the index is the severity a merge compares. */
export const TCB_STATUSES = [
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
  "Revoked",
] as const;

export type TcbStatus = (typeof TCB_STATUSES)[number];

/** A level a TCB reached: its status and what is known to be wrong with it. */
export interface TcbVerdict {
  readonly status: TcbStatus;
  readonly advisoryIds: readonly string[];
  /** When Intel assessed the level, RFC 3339. */
  readonly date: string;
}

/** The worse status, all advisories in order without duplicates, the older date. */
export function mergeTcb(a: TcbVerdict, b: TcbVerdict): TcbVerdict {
  return {
    status: severity(a.status) >= severity(b.status) ? a.status : b.status,
    advisoryIds: [...new Set([...a.advisoryIds, ...b.advisoryIds])],
    date: a.date < b.date ? a.date : b.date,
  };
}

function severity(status: TcbStatus): number {
  return TCB_STATUSES.indexOf(status);
}
