import { toHex, utf8 } from "#core/bytes/bytes.ts";
import { accepted, type CaseSpec, flipHex, refused, spoiled } from "./case-spec.ts";
import { keyOf, sign } from "./pki.ts";
import { build, DAY, goodScene, NOW, rfc3339, type SceneKind } from "./scene.ts";

const OTHER = keyOf("somebody else");
const TEXTS = [
  ["TCB info", "tcbInfo", "tcb_info", "tcbInfoSigner"],
  ["QE identity", "qeIdentity", "qe_identity", "qeIdentitySigner"],
] as const;

/** TCB info and QE identity: signatures, dates, form, and whether they are about this platform. */
export function collateralCases(kind: SceneKind): CaseSpec[] {
  const isTdx = kind !== "sgx-v3";
  return [
    ...TEXTS.flatMap(([name, json, member, signer]) =>
      signedTextCases(kind, name, json, member, signer)
    ),
    {
      title: "no collateral",
      kind: "binding",
      request: { collateral: null },
      expect: { outcome: "refused", reason: "collateral-missing" },
    },
    refused("collateral-too-old", "collateral a second older than the policy allows", () => {}, {
      kind: "binding",
      request: { policy: { require: [], max_collateral_age_seconds: DAY - 1 } },
    }),
    accepted("collateral as old as the policy allows", () => {}, {
      kind: "binding",
      request: { policy: { require: [], max_collateral_age_seconds: DAY } },
    }),
    refused("platform-mismatch", "TCB info of another FMSPC", ({ tcbInfo }) => {
      tcbInfo.fmspc = "C0F0EE000002";
    }),
    refused("platform-mismatch", "TCB info of another PCEID", ({ tcbInfo }) => {
      tcbInfo.pceId = "0001";
    }),
    accepted("TCB info with its FMSPC in lower case", ({ tcbInfo }) => {
      tcbInfo.fmspc = tcbInfo.fmspc.toLowerCase();
    }),
    refused("platform-mismatch", "TCB info of the other TEE", ({ tcbInfo }) => {
      Object.assign(tcbInfo, goodScene(isTdx ? "sgx-v3" : "tdx-v4").tcbInfo);
    }),
    refused("platform-mismatch", "QE identity of the other TEE", ({ qeIdentity }) => {
      qeIdentity.id = isTdx ? "QE" : "TD_QE";
    }),
    spoiled(
      "collateral-malformed",
      "TCB info and QE identity in each other's place",
      (m) => {
        const { collateral } = m;
        m.collateral = {
          ...collateral,
          tcb_info: collateral.qe_identity,
          qe_identity: collateral.tcb_info,
        };
      },
    ),
    ...[1, 2, 4, 0].map((version) =>
      refused("collateral-malformed", `TCB info of version ${version}`, ({ tcbInfo }) => {
        tcbInfo.version = version;
      })
    ),
    refused("collateral-malformed", "TCB info of TCB type 1", ({ tcbInfo }) => {
      tcbInfo.tcbType = 1;
    }),
    ...[1, 4].map((version) =>
      refused("collateral-malformed", `QE identity of version ${version}`, ({ qeIdentity }) => {
        qeIdentity.version = version;
      })
    ),
    isTdx
      ? accepted("QE identity of version 3", ({ qeIdentity }) => void (qeIdentity.version = 3))
      : refused("collateral-malformed", "QE identity of version 3", ({ qeIdentity }) => {
        qeIdentity.version = 3;
      }),
    ...["sgxtcbcomponents", ...(isTdx ? ["tdxtcbcomponents"] : [])].flatMap((name) =>
      [15, 17].map((count) =>
        refused("collateral-malformed", `TCB level with ${count} ${name}`, ({ tcbInfo }) => {
          tcbInfo.tcbLevels[0]!.tcb[name] = Array.from({ length: count }, () => ({ svn: 0 }));
        })
      )
    ),
    refused("collateral-malformed", "TCB level with an SVN of 256", ({ tcbInfo }) => {
      tcbInfo.tcbLevels[0]!.tcb["sgxtcbcomponents"] = Array.from({ length: 16 }, () => ({
        svn: 256,
      }));
    }),
    refused("collateral-malformed", "TCB level with a status nobody knows", ({ tcbInfo }) => {
      tcbInfo.tcbLevels[0]!.tcbStatus = "Fine";
    }),
    refused("collateral-malformed", "QE level with a status nobody knows", ({ qeIdentity }) => {
      qeIdentity.tcbLevels[0]!.tcbStatus = "Fine";
    }),
    accepted("TCB info with a member of the future", ({ tcbInfo }) => {
      tcbInfo["somethingNew"] = { a: [1, 2, 3] };
    }),
    accepted("PCK chain in the collateral, encrypted PPID in the quote", (scene) => {
      scene.pckChainInCollateral = true;
      scene.certification = { type: 2, bytes: new Uint8Array(256 + 16 + 2 + 2) };
    }),
    accepted("PCK chain in the collateral, larger encrypted PPID in the quote", (scene) => {
      scene.pckChainInCollateral = true;
      scene.certification = { type: 3, bytes: new Uint8Array(384 + 16 + 2 + 2) };
    }),
    refused("endorsement-missing", "encrypted PPID in the quote, PCK chain nowhere", (scene) => {
      scene.certification = { type: 2, bytes: new Uint8Array(256 + 16 + 2 + 2) };
    }),
  ];
}

function signedTextCases(
  kind: SceneKind,
  name: string,
  json: "tcbInfo" | "qeIdentity",
  member: "tcb_info" | "qe_identity",
  signer: "tcbInfoSigner" | "qeIdentitySigner",
): CaseSpec[] {
  const forged = "collateral-signature-invalid";
  const malformed = "collateral-malformed";
  const signature = `${member}_signature` as const;
  /** Text of our choice under the right signature. */
  const signedText = (reason: string, title: string, textOf: (text: string) => string): CaseSpec =>
    spoiled(reason, title, ({ collateral }) => {
      collateral[member] = textOf(collateral[member]);
      const key = goodScene(kind)[signer];
      collateral[signature] = toHex(sign(key, utf8(collateral[member])));
    });
  return [
    refused(forged, `${name} signed by somebody else`, (scene) => void (scene[signer] = OTHER)),
    refused(forged, `${name} signed with the PCK key`, (scene) => {
      scene[signer] = scene.certificates.pck.key;
    }),
    spoiled(forged, `${name} with a bit of its signature flipped`, ({ collateral }) => {
      collateral[signature] = flipHex(collateral[signature], 40, 3);
    }),
    spoiled(forged, `${name} with a signature of zeros`, ({ collateral }) => {
      collateral[signature] = "00".repeat(64);
    }),
    spoiled(forged, `${name} with a signature too short`, ({ collateral }) => {
      collateral[signature] = collateral[signature].slice(2);
    }),
    spoiled(forged, `${name} with a signature too long`, ({ collateral }) => {
      collateral[signature] += "00";
    }),
    spoiled(forged, `${name} changed after it was signed`, ({ collateral }) => {
      collateral[member] = collateral[member].replace('"OutOfDate"', '"UpToDate"');
    }),
    spoiled(forged, `${name} written with other white space`, ({ collateral }) => {
      collateral[member] = `${collateral[member]} `;
    }),
    spoiled(forged, `${name} with its members in another order`, ({ collateral }) => {
      const entries = Object.entries(JSON.parse(collateral[member]) as object).reverse();
      collateral[member] = JSON.stringify(Object.fromEntries(entries));
    }),
    spoiled(forged, `signature of another day's ${name}`, ({ collateral }) => {
      const scene = goodScene(kind);
      scene[json].issueDate = rfc3339(NOW - 2 * DAY);
      collateral[signature] = build(scene).collateral[signature];
    }),
    refused("collateral-expired", `${name} expired a second ago`, (scene) => {
      scene[json].nextUpdate = rfc3339(NOW - 1);
    }),
    accepted(`${name} ends this second`, (scene) => {
      scene[json].nextUpdate = rfc3339(NOW);
    }),
    refused("collateral-not-yet-valid", `${name} starts in a second`, (scene) => {
      scene[json].issueDate = rfc3339(NOW + 1);
    }),
    refused(
      "collateral-not-yet-valid",
      `${name} starts in a second, and grace does not help`,
      (s) => {
        s[json].issueDate = rfc3339(NOW + 1);
      },
      { request: { policy: { require: [], collateral_grace_seconds: DAY } } },
    ),
    accepted(`${name} expired within the grace`, (scene) => {
      scene[json].nextUpdate = rfc3339(NOW - 60);
    }, { kind: "binding", request: { policy: { require: [], collateral_grace_seconds: 60 } } }),
    refused("collateral-expired", `${name} expired beyond the grace`, (scene) => {
      scene[json].nextUpdate = rfc3339(NOW - 61);
    }, { request: { policy: { require: [], collateral_grace_seconds: 60 } } }),
    signedText(malformed, `${name} that is no JSON`, (text) => text.slice(0, -1)),
    signedText(
      malformed,
      `${name} with a member twice`,
      (text) => text.replace('"version"', `"nextUpdate":"${rfc3339(NOW + 99 * DAY)}","version"`),
    ),
    signedText(malformed, `${name} as a list`, (text) => `[${text}]`),
    ...["issueDate", "nextUpdate", "tcbLevels", "tcbEvaluationDataNumber", "version", "id"].map((
      one,
    ) =>
      signedText(malformed, `${name} without ${one}`, (text) => {
        const { [one]: _left, ...rest } = JSON.parse(text) as Record<string, unknown>;
        return JSON.stringify(rest);
      })
    ),
    signedText(
      malformed,
      `${name} with a date that does not exist`,
      (text) => text.replace(/"nextUpdate":"[^"]*"/, '"nextUpdate":"2027-02-30T00:00:00Z"'),
    ),
    signedText(
      malformed,
      `${name} with a date without time zone`,
      (text) => text.replace(/"nextUpdate":"([^"]*)Z"/, '"nextUpdate":"$1"'),
    ),
  ];
}
