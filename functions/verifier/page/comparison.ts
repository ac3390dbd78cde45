import type { CheckId, Verdict, VerdictTcb } from "#core/attestation/verdict.ts";

/** What a check looked at, as rows of a name and a value. */
export type Rows = readonly (readonly [name: string, value: string])[];

/** The members of a request that say what to compare with; it is the page's own. */
interface Expectations {
  readonly report_data?: string;
  readonly reference?: {
    readonly compose_hash?: string;
    readonly app_id?: string;
    readonly instance_id?: string;
    readonly os_image_hashes?: readonly string[];
    readonly key_provider?: { readonly name: string; readonly id: string };
  };
  readonly policy?: {
    readonly allowed_tcb_statuses?: readonly string[];
    readonly allowed_advisories?: readonly string[] | "any";
    readonly require?: readonly string[];
  };
}

/** Registers of every TEE that a check rests on; those that evidence lacks are not shown. */
const REGISTERS: Partial<Record<CheckId, readonly string[]>> = {
  "platform-match": ["chip_id"],
  "debug-disabled": ["td_attributes", "attributes", "policy", "pcr0", "pcr1", "pcr2"],
  "tee-attributes": [
    "td_attributes",
    "xfam",
    "seam_attributes",
    "mr_signer_seam",
    "mr_service_td",
    "attributes",
    "policy",
    "vmpl",
    "platform_info",
  ],
  "tpm-quote": ["pcr0", "pcr2", "pcr14"],
  "event-log-replay": ["rtmr0", "rtmr1", "rtmr2", "rtmr3", "pcr14"],
  "os-image": [
    "mr_td",
    "rtmr0",
    "rtmr1",
    "rtmr2",
    "measurement",
    "pcr0",
    "pcr1",
    "pcr2",
    "pcr4",
    "pcr7",
    "pcr12",
  ],
  "acpi-tables": ["rtmr0"],
  "mr-config-id": ["mr_config_id", "host_data"],
};

/** What stood against what in a check: of the evidence, and of what the request expects. */
export function comparedIn(id: CheckId, verdict: Verdict, request: string): Rows {
  const { measurements } = verdict;
  const registers = (REGISTERS[id] ?? []).flatMap((name): Rows => {
    const value = measurements?.[name];
    return value === undefined ? [] : [[name, value]];
  });
  const rows = rowsOf(id, verdict, JSON.parse(request) as Expectations);
  return [...rows.filter(([, value]) => value !== ""), ...registers];
}

function rowsOf(id: CheckId, verdict: Verdict, request: Expectations): Rows {
  const { identity: who, tcb, trustAnchor, evaluatedAt, reportData } = verdict;
  const { reference = {}, policy = {} } = request;
  const pair = (evidence: string | undefined, expected: string | undefined): Rows => [
    ["In the evidence", evidence ?? ""],
    ["Expected", expected ?? "nothing named"],
  ];
  const provider = (one: { name: string; id: string } | null | undefined) =>
    one ? `${one.name} ${one.id}` : undefined;
  switch (id) {
    case "collateral-validity":
      return tcb && "fmspc" in tcb
        ? [
          ["Holds from", tcb.collateral.validFrom],
          ["Holds until", tcb.collateral.validUntil],
          ["Judged for", evaluatedAt],
        ]
        : [["Judged for", evaluatedAt]];
    case "signature-chain":
      return [["Signed under", trustAnchor?.name ?? ""]];
    case "evidence-freshness":
      return [["Judged for", evaluatedAt]];
    case "platform-match":
      return tcb === null ? [] : "fmspc" in tcb ? [["FMSPC", tcb.fmspc]] : [[
        "Processor",
        tcb.product,
      ]];
    case "tcb-status":
      return tcb === null ? [] : [
        ...tcbFacts(tcb),
        ["Status", tcb.status],
        ["Allowed", (policy.allowed_tcb_statuses ?? ["UpToDate"]).join(", ")],
      ];
    case "tcb-advisories": {
      const { allowed_advisories: allowed = [] } = policy;
      return tcb === null ? [] : [
        ["Open", tcb.advisoryIds.join(", ") || "none"],
        ["Allowed", typeof allowed === "string" ? allowed : allowed.join(", ") || "none"],
      ];
    }
    case "report-data":
      return pair(reportData ?? undefined, request.report_data);
    case "os-image":
      return pair(who?.osImageHash, reference.os_image_hashes?.join(", "));
    case "compose-hash":
      return pair(who?.composeHash, reference.compose_hash);
    case "app-id":
      return pair(who?.appId, reference.app_id);
    case "instance-id":
      return pair(who?.instanceId, reference.instance_id);
    case "key-provider":
      return pair(provider(who?.keyProvider), provider(reference.key_provider));
    case "policy":
      return [["Required of a CVM", policy.require?.join(", ") ?? ""]];
    default:
      return [];
  }
}

function tcbFacts(tcb: VerdictTcb): Rows {
  if ("product" in tcb) {
    return [
      ["Signed with", tcb.signingKey.toUpperCase()],
      ["Reported TCB", JSON.stringify(tcb.reported)],
      ["Current TCB", JSON.stringify(tcb.current)],
      ["Committed TCB", JSON.stringify(tcb.committed)],
      ["Launch TCB", JSON.stringify(tcb.launch)],
    ];
  }
  return [
    ["Platform", tcb.platformStatus],
    ["Quoting enclave", tcb.quotingEnclaveStatus],
    ["TCB evaluation", String(tcb.evaluationDataNumber)],
  ];
}
