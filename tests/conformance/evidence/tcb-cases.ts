import { accepted, type CaseSpec, refused } from "./case-spec.ts";
import { filled, type Scene, type SceneKind } from "./scene.ts";

/** Intel's words, from best to worst. */
const STATUSES = [
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
  "Revoked",
] as const;
const allowing = (...statuses: readonly string[]) => ({
  request: { policy: { require: [], allowed_tcb_statuses: statuses, allowed_advisories: "any" } },
});

/** TCB levels, their statuses and how they merge, advisories, the TDX module, attributes. */
export function tcbCases(kind: SceneKind): CaseSpec[] {
  const isTdx = kind !== "sgx-v3";
  return [
    ...statusCases(isTdx),
    ...levelCases(isTdx),
    ...advisoryCases(),
    ...(isTdx ? [...moduleCases(), ...tdAttributeCases(kind)] : sgxAttributeCases()),
  ];
}

function statusCases(isTdx: boolean): CaseSpec[] {
  const places: readonly (readonly [string, (scene: Scene) => { tcbStatus: string }])[] = [
    ["platform", ({ tcbInfo }) => tcbInfo.tcbLevels[0]!],
    ["QE", ({ qeIdentity }) => qeIdentity.tcbLevels[0]!],
    ...(isTdx
      ? [
        [
          "TDX module",
          ({ tcbInfo }: Scene) => tcbInfo.tdxModuleIdentities![0]!.tcbLevels[0]!,
        ] as const,
      ]
      : []),
  ];
  return places.flatMap(([name, levelOf]) =>
    STATUSES.flatMap((status) => {
      const change = (scene: Scene) => void (levelOf(scene).tcbStatus = status);
      if (status === "UpToDate") return [];
      if (status === "Revoked") {
        return [
          refused("tcb-revoked", `${name} is Revoked`, change),
          refused("tcb-revoked", `${name} is Revoked, whatever the policy allows`, change, {
            ...allowing(...STATUSES),
          }),
        ];
      }
      return [
        refused("tcb-status-not-allowed", `${name} is ${status}`, change),
        accepted(`${name} is ${status}, which the policy allows`, change, {
          ...allowing(status),
          status,
        }),
        refused("tcb-status-not-allowed", `${name} is ${status}, and another is allowed`, change, {
          ...allowing(...STATUSES.filter((one) => one !== status)),
        }),
      ];
    })
  ).concat([
    refused("tcb-status-not-allowed", "the worse of platform and QE counts", (scene) => {
      scene.tcbInfo.tcbLevels[0]!.tcbStatus = "SWHardeningNeeded";
      scene.qeIdentity.tcbLevels[0]!.tcbStatus = "OutOfDate";
    }, allowing("UpToDate", "SWHardeningNeeded")),
    accepted("platform and QE each with a status", (scene) => {
      scene.tcbInfo.tcbLevels[0]!.tcbStatus = "SWHardeningNeeded";
      scene.qeIdentity.tcbLevels[0]!.tcbStatus = "OutOfDate";
    }, { ...allowing("OutOfDate"), status: "OutOfDate" }),
  ]);
}

function levelCases(isTdx: boolean): CaseSpec[] {
  const older = { ...allowing("OutOfDate"), status: "OutOfDate" };
  const nothing = "tcb-level-not-found";
  return [
    ...[0, 1, 2, 3, 4, 5, 7].flatMap((i) => [
      accepted(`CPUSVN component ${i} one lower reaches the older level`, ({ pck }) => {
        pck.cpuSvn[i]!--;
      }, older),
      refused(nothing, `CPUSVN component ${i} two lower reaches none`, ({ pck, tcbInfo }) => {
        // Components of 1 cannot fall by two: both levels are raised instead.
        pck.cpuSvn[i] = 0;
        for (const [n, level] of tcbInfo.tcbLevels.entries()) {
          (level.tcb["sgxtcbcomponents"] as { svn: number }[])[i]!.svn = 2 - n;
        }
      }),
    ]),
    accepted("PCESVN one lower reaches the older level", ({ pck }) => void pck.pceSvn--, older),
    refused(nothing, "PCESVN two lower reaches none", ({ pck }) => void (pck.pceSvn -= 2)),
    accepted("everything newer than the newest level", ({ pck }) => {
      pck.cpuSvn = filled(16, 200);
      pck.pceSvn = 65535;
    }),
    accepted("levels in the wrong order: the best one reached counts", ({ tcbInfo }) => {
      tcbInfo.tcbLevels.reverse();
    }),
    refused(nothing, "no TCB level at all", ({ tcbInfo }) => void (tcbInfo.tcbLevels = [])),
    accepted("QE one SVN older reaches the older level", ({ qeReport }) => {
      qeReport.isvSvn--;
    }, older),
    refused(nothing, "QE older than any level", ({ qeReport }) => void (qeReport.isvSvn = 1)),
    refused(nothing, "no QE level at all", ({ qeIdentity }) => void (qeIdentity.tcbLevels = [])),
    refused("tcb-evaluation-too-old", "TCB evaluation below what the policy asks", () => {}, {
      kind: "binding",
      request: { policy: { require: [], min_tcb_evaluation_data_number: 19 } },
    }),
    accepted("TCB evaluation as the policy asks", () => {}, {
      kind: "binding",
      request: { policy: { require: [], min_tcb_evaluation_data_number: 18 } },
    }),
    refused("tcb-evaluation-too-old", "QE identity of an older TCB evaluation", (scene) => {
      scene.qeIdentity.tcbEvaluationDataNumber = 17;
    }, {
      kind: "binding",
      request: { policy: { require: [], min_tcb_evaluation_data_number: 18 } },
    }),
    ...(isTdx
      ? [0, 2].map((i) =>
        accepted(`TEE_TCB_SVN component ${i} one lower reaches the older level`, ({ td }) => {
          td["teeTcbSvn"]![i]!--;
        }, older)
      )
      : []),
  ];
}

function advisoryCases(): CaseSpec[] {
  const withAdvisories = ({ tcbInfo, qeIdentity }: Scene) => {
    tcbInfo.tcbLevels[0]!.advisoryIDs = ["INTEL-SA-00001", "INTEL-SA-00002"];
    qeIdentity.tcbLevels[0]!.advisoryIDs = ["INTEL-SA-00003"];
  };
  const allowed = (allowed_advisories: unknown) => ({
    kind: "binding" as const,
    request: { policy: { require: [], allowed_advisories } },
  });
  return [
    refused("advisory-not-allowed", "open advisories", withAdvisories, { kind: "binding" }),
    refused("advisory-not-allowed", "open advisories, one of them not allowed", withAdvisories, {
      ...allowed(["INTEL-SA-00001", "INTEL-SA-00002"]),
    }),
    accepted("open advisories, each allowed", withAdvisories, {
      ...allowed(["INTEL-SA-00003", "INTEL-SA-00001", "INTEL-SA-00002"]),
    }),
    accepted("open advisories, any allowed", withAdvisories, allowed("any")),
  ];
}

function moduleCases(): CaseSpec[] {
  const mismatch = "tdx-module-mismatch";
  return [
    refused(mismatch, "TDX module that TCB info does not list", ({ td }) => {
      td["teeTcbSvn"]![1] = 2;
    }),
    refused(mismatch, "TDX module of another signer", ({ td }) => {
      td["mrSignerSeam"] = filled(48, 1);
    }),
    refused(mismatch, "TDX module with another attribute", ({ td }) => {
      td["seamAttributes"] = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);
    }),
    refused(mismatch, "TDX module with an attribute outside the mask", ({ td, tcbInfo }) => {
      td["seamAttributes"] = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0x80);
      tcbInfo.tdxModuleIdentities![0]!.attributesMask = "FFFFFFFFFFFFFF7F";
    }),
    refused(mismatch, "TCB info without tdxModule", ({ tcbInfo }) => void delete tcbInfo.tdxModule),
    refused("tcb-level-not-found", "TDX module older than any of its levels", ({ td, tcbInfo }) => {
      td["teeTcbSvn"]![0] = 4;
      for (const level of tcbInfo.tcbLevels) {
        (level.tcb["tdxtcbcomponents"] as { svn: number }[])[0]!.svn = 0;
      }
    }),
    accepted("TDX module identity named in lower case", ({ tcbInfo }) => {
      tcbInfo.tdxModuleIdentities![0]!.id = "tdx_01";
    }),
    accepted("TDX module of version 0 has no identity of its own", ({ td, tcbInfo }) => {
      td["teeTcbSvn"]![1] = 0;
      for (const level of tcbInfo.tcbLevels) {
        (level.tcb["tdxtcbcomponents"] as { svn: number }[])[1]!.svn = 0;
      }
    }),
  ];
}

/** Spec attestation.md 1.4, step 13: which TD attributes a production TD may have. */
function tdAttributeCases(kind: SceneKind): CaseSpec[] {
  const DEBUG = 0;
  const SEPT_VE_DISABLE = 28;
  const HARMLESS = [30, 31]; // protection keys, key locker
  const bits = kind === "tdx-v4" ? Array.from({ length: 64 }, (_, bit) => bit) : [0, 1, 28, 63];
  const cases = bits.map((bit) => {
    const change = ({ td }: Scene) => void (td["tdAttributes"]![bit >> 3]! ^= 1 << (bit & 7));
    if (bit === DEBUG) return refused("debug-enabled", "TD in debug mode", change);
    if (bit === SEPT_VE_DISABLE) {
      return refused("attributes-not-allowed", "TD without SEPT_VE_DISABLE", change);
    }
    return HARMLESS.includes(bit)
      ? accepted(`TD attribute bit ${bit}`, change)
      : refused("attributes-not-allowed", `TD attribute bit ${bit}`, change);
  });
  return kind === "tdx-v5-td15"
    ? [
      ...cases,
      refused("attributes-not-allowed", "a service TD is bound", ({ td }) => {
        td["mrServiceTd"] = filled(48, 1);
      }),
    ]
    : cases;
}

/** Intel SDM volume 3D, 36.7.1: flags of an enclave. */
function sgxAttributeCases(): CaseSpec[] {
  const DEBUG = 1;
  const ALLOWED = [0, 2, 4, 5, 6, 7, 10];
  return Array.from({ length: 64 }, (_, bit) => {
    const change = ({ enclave }: Scene) => void (enclave.attributes[bit >> 3]! |= 1 << (bit & 7));
    if (bit === DEBUG) return refused("debug-enabled", "enclave in debug mode", change);
    return ALLOWED.includes(bit)
      ? accepted(`enclave attribute bit ${bit}`, change)
      : refused("attributes-not-allowed", `enclave attribute bit ${bit}`, change);
  });
}
