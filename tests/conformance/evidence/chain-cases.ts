import { utf8 } from "#core/bytes/bytes.ts";
import { DER, der, derInteger } from "#core/encoding/der.ts";
import { accepted, type CaseSpec, flipHex, refused, spoiled } from "./case-spec.ts";
import { buildCertificate, KEY_USAGE, keyOf, pemOf } from "./pki.ts";
import { DAY, goodScene, NOW, type SceneKind } from "./scene.ts";

const CERTIFICATES = ["root", "platformCa", "pck", "tcbSigner"] as const;
const OTHER = keyOf("somebody else");
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

/** Certificates, their chains and revocation lists. */
export function chainCases(kind: SceneKind): CaseSpec[] {
  return [
    ...validityCases(),
    ...revocationCases(),
    ...usageCases(),
    ...trustCases(kind),
    ...pckCases(),
    ...textCases(),
  ];
}

function validityCases(): CaseSpec[] {
  return CERTIFICATES.flatMap((name) => [
    refused("certificate-expired", `${name} certificate expired a second ago`, (scene) => {
      scene.certificates[name].notAfter = NOW - 1;
    }),
    refused("certificate-not-yet-valid", `${name} certificate is valid in a second`, (scene) => {
      scene.certificates[name].notBefore = NOW + 1;
    }),
    accepted(`${name} certificate is valid for this second alone`, (scene) => {
      scene.certificates[name].notBefore = NOW;
      scene.certificates[name].notAfter = NOW;
    }),
    refused(
      "certificate-expired",
      `${name} certificate expired, and grace does not help`,
      (scene) => {
        scene.certificates[name].notAfter = NOW - 1;
      },
      { request: { policy: { require: [], collateral_grace_seconds: 7 * DAY } } },
    ),
  ]);
}

function revocationCases(): CaseSpec[] {
  const revoked = "certificate-revoked";
  return [
    refused(revoked, "PCK certificate revoked", ({ crls }) => crls.pck.revoked.push(3n)),
    refused(revoked, "PCK certificate revoked among others", ({ crls }) => {
      crls.pck.revoked.push(77n, 3n, 78n);
    }),
    refused(revoked, "platform CA revoked", ({ crls }) => crls.root.revoked.push(2n)),
    refused(revoked, "TCB signing certificate revoked", ({ crls }) => crls.root.revoked.push(4n)),
    refused(revoked, "root revoked by itself", ({ crls }) => crls.root.revoked.push(1n)),
    accepted("another certificate revoked", ({ crls }) => {
      crls.pck.revoked.push(99n);
      crls.root.revoked.push(98n);
    }),
    accepted("serial of the PCK certificate revoked by another issuer", ({ crls }) => {
      crls.root.revoked.push(3n);
    }),
    ...(["root", "pck"] as const).flatMap((name) => [
      refused("crl-expired", `${name} CRL expired a second ago`, ({ crls }) => {
        crls[name].nextUpdate = NOW - 1;
      }),
      accepted(`${name} CRL ends this second`, ({ crls }) => void (crls[name].nextUpdate = NOW)),
      refused("crl-not-yet-valid", `${name} CRL starts in a second`, ({ crls }) => {
        crls[name].thisUpdate = NOW + 1;
      }),
      refused("crl-signature-invalid", `${name} CRL signed by somebody else`, ({ crls }) => {
        crls[name].signer = OTHER;
      }),
      refused("crl-malformed", `${name} CRL with an unknown critical extension`, ({ crls }) => {
        crls[name].criticalExtension = true;
      }),
      spoiled("crl-malformed", `${name} CRL without its last byte`, ({ collateral }) => {
        const member = name === "pck" ? "pck_crl" : "root_ca_crl";
        collateral[member] = collateral[member].slice(0, -2);
      }),
      spoiled("crl-malformed", `${name} CRL with a byte behind it`, ({ collateral }) => {
        collateral[name === "pck" ? "pck_crl" : "root_ca_crl"] += "00";
      }),
      spoiled("crl-signature-invalid", `${name} CRL with a bit of its signature flipped`, (m) => {
        const member = name === "pck" ? "pck_crl" : "root_ca_crl";
        const crl = m.collateral[member];
        m.collateral[member] = flipHex(crl, crl.length / 2 - 1);
      }),
      accepted(`${name} CRL expired within the grace`, ({ crls }) => {
        crls[name].nextUpdate = NOW - 60;
      }, { kind: "binding", request: { policy: { require: [], collateral_grace_seconds: 60 } } }),
      refused("crl-expired", `${name} CRL expired beyond the grace`, ({ crls }) => {
        crls[name].nextUpdate = NOW - 61;
      }, { request: { policy: { require: [], collateral_grace_seconds: 60 } } }),
    ]),
    refused("crl-signature-invalid", "PCK CRL of another issuer", ({ crls }) => {
      crls.pck.issuer = "Conformance SGX PCK Processor CA";
    }),
    refused("revocation-unknown", "root CRL of another issuer", ({ crls }) => {
      crls.root.issuer = "Conformance other Root CA";
    }),
    spoiled("crl-signature-invalid", "root CRL in place of the PCK CRL", ({ collateral }) => {
      collateral.pck_crl = collateral.root_ca_crl;
    }),
    spoiled("revocation-unknown", "PCK CRL in place of the root CRL", ({ collateral }) => {
      collateral.root_ca_crl = collateral.pck_crl;
    }),
    refused("crl-signature-invalid", "platform CA may not sign CRLs", ({ certificates }) => {
      certificates.platformCa.keyUsage = [KEY_USAGE.keyCertSign];
    }),
  ];
}

function usageCases(): CaseSpec[] {
  const usage = "certificate-usage-invalid";
  const unknown = { oid: "1.3.6.1.4.1.99999.1", value: der(DER.null), critical: true };
  return [
    refused(usage, "platform CA stands where the PCK certificate belongs", (scene) => {
      scene.chains.pck = ["platformCa", "root"];
      scene.qeReportSigner = scene.certificates.platformCa.key;
    }),
    refused(usage, "platform CA signs the TCB info", (scene) => {
      scene.chains.tcbInfo = ["platformCa", "root"];
      scene.tcbInfoSigner = scene.certificates.platformCa.key;
    }),
    refused(usage, "platform CA signs the QE identity", (scene) => {
      scene.chains.qeIdentity = ["platformCa", "root"];
      scene.qeIdentitySigner = scene.certificates.platformCa.key;
    }),
    refused(usage, "root signs the TCB info itself", (scene) => {
      scene.chains.tcbInfo = ["root"];
      scene.tcbInfoSigner = scene.certificates.root.key;
    }),
    refused(usage, "PCK certificate is a CA's", ({ certificates }) => {
      certificates.pck.ca = { pathLength: undefined };
      certificates.pck.keyUsage = [KEY_USAGE.digitalSignature, KEY_USAGE.keyCertSign];
    }),
    refused(usage, "TCB signing certificate is a CA's", ({ certificates }) => {
      certificates.tcbSigner.ca = { pathLength: undefined };
      certificates.tcbSigner.keyUsage = [KEY_USAGE.digitalSignature, KEY_USAGE.keyCertSign];
    }),
    refused(usage, "platform CA without basicConstraints", ({ certificates }) => {
      certificates.platformCa.ca = undefined;
    }),
    refused(usage, "platform CA without keyUsage", ({ certificates }) => {
      certificates.platformCa.keyUsage = undefined;
    }),
    refused(usage, "platform CA may not sign certificates", ({ certificates }) => {
      certificates.platformCa.keyUsage = [KEY_USAGE.cRLSign];
    }),
    refused(usage, "root allows no CA below", ({ certificates }) => {
      certificates.root.ca = { pathLength: 0 };
    }),
    accepted("root without a limit of CAs below", ({ certificates }) => {
      certificates.root.ca = { pathLength: undefined };
    }),
    refused(usage, "PCK key may not sign", ({ certificates }) => {
      certificates.pck.keyUsage = [2]; // keyEncipherment
    }),
    accepted("PCK certificate without keyUsage", ({ certificates }) => {
      certificates.pck.keyUsage = undefined;
    }),
    ...(["pck", "tcbSigner"] as const).flatMap((name) => [
      refused(usage, `${name} certificate is for client authentication alone`, (scene) => {
        scene.certificates[name].extendedKeyUsage = [CLIENT_AUTH];
      }),
      accepted(`${name} certificate is for server authentication`, (scene) => {
        scene.certificates[name].extendedKeyUsage = [SERVER_AUTH];
      }),
    ]),
    ...CERTIFICATES.map((name) =>
      refused(usage, `${name} certificate with an unknown critical extension`, (scene) => {
        scene.certificates[name].extensions.push(unknown);
      })
    ),
    accepted("PCK certificate with an unknown extension that is not critical", (scene) => {
      scene.certificates.pck.extensions.push({ ...unknown, critical: false });
    }),
  ];
}

function trustCases(kind: SceneKind): CaseSpec[] {
  const signature = "certificate-signature-invalid";
  const otherRoot = () =>
    pemOf(buildCertificate({
      ...goodScene(kind).certificates.root,
      key: OTHER,
      signer: OTHER,
      subject: "Other Root CA",
      issuer: "Other Root CA",
    }));
  const namesake = () =>
    pemOf(buildCertificate({ ...goodScene(kind).certificates.root, key: OTHER, signer: OTHER }));
  return [
    spoiled("certificate-untrusted", "another root is trusted", (m) => void (m.root = otherRoot())),
    spoiled("certificate-untrusted", "a root of the same name and another key is trusted", (m) => {
      m.root = namesake();
    }),
    refused(signature, "a root of the same name is trusted, and the chain brings none", (scene) => {
      scene.chains.pck = ["pck", "platformCa"];
      scene.chains.pckCrl = ["platformCa"];
      scene.chains.tcbInfo = ["tcbSigner"];
      scene.chains.qeIdentity = ["tcbSigner"];
    }, { patch: (m) => void (m.root = namesake()) }),
    ...(["platformCa", "pck", "tcbSigner"] as const).flatMap((name) => [
      refused(signature, `${name} certificate signed by somebody else`, ({ certificates }) => {
        certificates[name].signer = OTHER;
      }),
      refused("certificate-untrusted", `${name} certificate names another issuer`, (scene) => {
        scene.certificates[name].issuer = "Nobody we know";
      }),
    ]),
    refused("certificate-untrusted", "PCK chain without the platform CA", ({ chains }) => {
      chains.pck = ["pck", "root"];
    }),
    refused("certificate-untrusted", "PCK chain in reverse order", ({ chains }) => {
      chains.pck = ["root", "platformCa", "pck"];
    }),
    refused("certificate-untrusted", "a certificate twice in the PCK chain", ({ chains }) => {
      chains.pck = ["pck", "pck", "platformCa", "root"];
    }),
    refused("certificate-untrusted", "TCB signing certificate in place of the PCK", (scene) => {
      scene.chains.pck = ["tcbSigner", "platformCa", "root"];
    }),
    refused(
      "quoting-enclave-signature-invalid",
      "QE report signed with the platform CA's key",
      (s) => {
        s.qeReportSigner = s.certificates.platformCa.key;
      },
    ),
    refused("quoting-enclave-signature-invalid", "PCK certificate of another machine", (scene) => {
      scene.certificates.pck.key = keyOf("PCK of another machine");
    }),
  ];
}

/** The SGX extension of the PCK certificate. */
function pckCases(): CaseSpec[] {
  const malformed = "certificate-malformed";
  return [
    ...["1", "2", "2.17", "2.18", "3", "4", "5", "extension"].map((suffix) =>
      refused(malformed, `PCK certificate without SGX member ${suffix}`, ({ pck }) => {
        pck.omitted.push(suffix);
      })
    ),
    ...["1", "2.17", "2.18", "4"].map((suffix) =>
      refused(malformed, `PCK certificate with SGX member ${suffix} twice`, ({ pck }) => {
        pck.repeated.push(suffix);
      })
    ),
    refused(malformed, "FMSPC of five bytes", ({ pck }) => void (pck.fmspc = pck.fmspc.slice(1))),
    refused(malformed, "PCEID of three bytes", ({ pck }) => void (pck.pceId = new Uint8Array(3))),
    refused(malformed, "PPID of 15 bytes", ({ pck }) => void (pck.ppid = pck.ppid.slice(1))),
    refused(malformed, "PCK certificate with an extension twice", ({ certificates }) => {
      const extension = { oid: "1.3.6.1.4.1.99999.2", value: derInteger(1n), critical: false };
      certificates.pck.extensions.push(extension, extension);
    }),
  ];
}

/** PEM texts, which nobody signed. */
function textCases(): CaseSpec[] {
  const CHAINS = [
    "pck_crl_issuer_chain",
    "tcb_info_issuer_chain",
    "qe_identity_issuer_chain",
  ] as const;
  const malformed = "certificate-malformed";
  return [
    ...CHAINS.flatMap((member) => [
      spoiled(malformed, `text before the certificates of ${member}`, ({ collateral }) => {
        collateral[member] = `x${collateral[member]}`;
      }),
      spoiled(malformed, `${member} cut off`, ({ collateral }) => {
        collateral[member] = collateral[member].slice(0, -40);
      }),
      spoiled(malformed, `${member} is empty`, ({ collateral }) => void (collateral[member] = "")),
    ]),
    refused(malformed, "PCK chain of something else than PEM", (scene) => {
      scene.certification.bytes = utf8("not a certificate");
    }),
    refused("endorsement-missing", "PCK chain that is not UTF-8", (scene) => {
      scene.certification.bytes = Uint8Array.of(0x80, 0x81);
    }),
    refused("certificate-untrusted", "empty PCK chain", (scene) => {
      scene.certification.bytes = new Uint8Array(0);
    }),
  ];
}
