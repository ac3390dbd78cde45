import { encode } from "@msgpack/msgpack";
import { p384 } from "@noble/curves/nist.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, toBase64, toHex, utf8 } from "#core/bytes/bytes.ts";
import { cborMap, type CborValue, encodeCbor } from "#core/encoding/cbor.ts";
import { encodeCoseSign1 } from "#core/encoding/cose.ts";
import { DER, der, derInteger, derOid } from "#core/encoding/der.ts";
import { encodePem } from "#core/encoding/pem.ts";
import {
  buildCrl,
  buildX509Certificate,
  type X509Authority,
  x509Name,
  type X509Spec,
} from "#core/x509/x509-builder.ts";
import type { CaseRequest, ConformanceCase } from "./case.ts";
import { filled, NOW, rfc3339 } from "./scene.ts";

/**
 * Evidence of AMD SEV-SNP and of AWS Nitro enclaves under vendors of our own (spec attestation.md 5.7 and
 * 8), in the MessagePack container.
 */

const DAY = 86_400;
const validity = { notBefore: NOW - DAY, notAfter: NOW + DAY };
const authority = (name: string, key: number): X509Authority => ({
  name: x509Name("Conformance", name),
  key: filled(48, key),
  curve: "P-384",
});
const ROOT = authority("root", 1);
const CA = authority("ca", 2);
const LEAF = authority("leaf", 3);
const STRANGER = authority("stranger", 9);

type Certificates = Record<"root" | "ca" | "leaf", X509Spec>;

/** A case: what is changed in good evidence, before it is signed (`change`) or after (`patch`). */
interface VendorSpec<Scene> {
  readonly title: string;
  /** Undefined: accepted. */
  readonly reason?: string;
  readonly change?: (scene: Scene) => void;
  readonly patch?: (bytes: Uint8Array) => Uint8Array;
  readonly request?: Partial<CaseRequest>;
}

interface Common {
  certificates: Certificates;
  reportData: Uint8Array;
  config: Record<string, unknown>;
}

export function* vendorCases(): Generator<ConformanceCase> {
  for (const spec of nitroSpecs()) yield caseOf("nitro", spec, nitroOf);
  for (const spec of snpSpecs()) yield caseOf("snp", spec, snpOf);
}

interface Sent {
  readonly platform: { readonly kind: string; readonly data: Record<string, unknown> };
  readonly root: Uint8Array;
  readonly config: Record<string, unknown>;
  readonly reportData: Uint8Array;
  /** Of what is accepted. */
  readonly status?: string;
}

function caseOf<Scene extends Common>(
  kind: "nitro" | "snp",
  spec: VendorSpec<Scene>,
  make: (spec: VendorSpec<Scene>) => Sent,
): ConformanceCase {
  const { platform, root, config, reportData, status } = make(spec);
  const attestation = encode({
    version: 1,
    platform,
    stack: {
      kind: "dstack",
      data: { report_data: reportData, runtime_events: [], config: JSON.stringify(config) },
    },
  });
  const slug = spec.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  return {
    id: `${kind}/evidence/${slug}`,
    title: spec.title,
    kind,
    root: encodePem("CERTIFICATE", root),
    request: { attestation: toHex(attestation), time: rfc3339(NOW), policy: {}, ...spec.request },
    expect: spec.reason
      ? { outcome: "refused", reason: spec.reason }
      : { outcome: "accepted", ...(status && { status }) },
  };
}

function commonOf(leaf: Partial<X509Spec>): Common {
  const certificate = (
    spec: Pick<X509Spec, "serial" | "issuer" | "subject"> & Partial<X509Spec>,
  ) => ({
    ...validity,
    ...spec,
  });
  return {
    certificates: {
      root: certificate({ serial: 1n, issuer: ROOT, subject: ROOT, caPathLength: 1 }),
      ca: certificate({ serial: 2n, issuer: ROOT, subject: CA, caPathLength: 0 }),
      leaf: certificate({ serial: 3n, issuer: CA, subject: LEAF, ...leaf }),
    },
    reportData: filled(64, 0xda),
    config: {},
  };
}

const change =
  <K extends keyof Certificates>(name: K, changes: Partial<X509Spec>) => (scene: Common) => {
    scene.certificates[name] = { ...scene.certificates[name], ...changes };
  };
const crl = (issuer: X509Authority, revokedSerials: bigint[], changes: object = {}) => ({
  vendor_documents: {
    crls: [toHex(buildCrl({
      issuer,
      thisUpdate: NOW - DAY,
      nextUpdate: NOW + DAY,
      revokedSerials,
      ...changes,
    }))],
  },
});
const flipped = (at: number) => (bytes: Uint8Array) => {
  const copy = bytes.slice();
  copy.set([copy.at(at)! ^ 1], at < 0 ? copy.length + at : at);
  return copy;
};

const CA_AS_LEAF = "leaf that is a CA";

/** What goes wrong with the chains of either vendor. */
function chainSpecs(): VendorSpec<Common>[] {
  const usage = (oid: string) => ["2.5.29.37", der(DER.sequence, derOid(oid))] as const;
  return [
    {
      title: "root that is not trusted",
      reason: "certificate-untrusted",
      change: change("ca", { issuer: STRANGER }),
    },
    {
      title: "leaf of a stranger",
      reason: "certificate-untrusted",
      change: change("leaf", { issuer: STRANGER }),
    },
    {
      title: "leaf signed with another key",
      reason: "certificate-signature-invalid",
      change: change("leaf", { issuer: { ...CA, key: STRANGER.key } }),
    },
    {
      title: "intermediate signed with another key",
      reason: "certificate-signature-invalid",
      change: change("ca", { issuer: { ...ROOT, key: STRANGER.key } }),
    },
    {
      title: "leaf expired a second ago",
      reason: "certificate-expired",
      change: change("leaf", { notAfter: NOW - 1 }),
    },
    {
      title: "leaf from the next second on",
      reason: "certificate-not-yet-valid",
      change: change("leaf", { notBefore: NOW + 1 }),
    },
    {
      title: "intermediate expired a second ago",
      reason: "certificate-expired",
      change: change("ca", { notAfter: NOW - 1 }),
    },
    {
      title: "intermediate from the next second on",
      reason: "certificate-not-yet-valid",
      change: change("ca", { notBefore: NOW + 1 }),
    },
    {
      title: "intermediate that is no CA",
      reason: "certificate-usage-invalid",
      change: ({ certificates }) => {
        const { caPathLength: _, ...spec } = certificates.ca;
        certificates.ca = spec;
      },
    },
    {
      title: CA_AS_LEAF,
      reason: "certificate-usage-invalid",
      change: change("leaf", { caPathLength: 0 }),
    },
    {
      title: "leaf with an unknown critical extension",
      reason: "certificate-usage-invalid",
      change: ({ certificates: { leaf }, certificates }) => {
        const extensions = [
          ...leaf.extensions ?? [],
          ["1.2.3.4", der(DER.sequence), true] as const,
        ];
        certificates.leaf = { ...leaf, extensions };
      },
    },
    {
      title: "list that revokes the intermediate",
      reason: "certificate-revoked",
      request: crl(ROOT, [2n]),
    },
    { title: "list that revokes nobody", request: crl(ROOT, []) },
    {
      title: "list that expired",
      reason: "crl-expired",
      request: crl(ROOT, [], { nextUpdate: NOW - 1 }),
    },
    {
      title: "list of the future",
      reason: "crl-not-yet-valid",
      request: crl(ROOT, [], { thisUpdate: NOW + 1 }),
    },
    {
      title: "list signed by a stranger",
      reason: "crl-signature-invalid",
      request: crl({ ...ROOT, key: STRANGER.key }, []),
    },
    {
      title: "list that is none",
      reason: "crl-malformed",
      request: { vendor_documents: { crls: ["00"] } },
    },
    {
      title: "leaf for servers",
      reason: "certificate-usage-invalid",
      change: ({ certificates: { leaf }, certificates }) => {
        const extensions = [...leaf.extensions ?? [], usage("1.3.6.1.5.5.7.3.1")];
        certificates.leaf = { ...leaf, extensions };
      },
    },
    { title: "challenge that is bound", request: { report_data: "da".repeat(64) } },
    {
      title: "challenge that is not bound",
      reason: "report-data-mismatch",
      request: { report_data: "db".repeat(64) },
    },
  ];
}

// ---- AWS Nitro enclaves

interface NitroScene extends Common {
  document: Record<string, CborValue>;
}

const pcrs = (...values: number[]) =>
  new Map(values.map((value, index) => [index, filled(48, value)] as const));

function nitroOf({ change, patch }: VendorSpec<NitroScene>): Sent {
  const scene: NitroScene = {
    ...commonOf({}),
    config: { os_image_hash: toHex(sha256(concatBytes(...pcrs(1, 2, 3).values()))) },
    document: {
      module_id: "i-1-enc2",
      digest: "SHA384",
      timestamp: NOW * 1000,
      pcrs: pcrs(1, 2, 3),
      public_key: null,
      user_data: filled(64, 0xda),
      nonce: null,
    },
  };
  change?.(scene);
  const [root, ca, leaf] = (["root", "ca", "leaf"] as const)
    .map((name) => buildX509Certificate(scene.certificates[name]));
  const payload = encodeCbor(cborMap({
    certificate: leaf!,
    cabundle: [root!, ca!],
    ...scene.document,
  }));
  const signed = encodeCoseSign1(payload, (bytes) => p384.sign(bytes, LEAF.key, { lowS: false }));
  return {
    platform: { kind: "nitro-enclave", data: { nsm_quote: patch ? patch(signed) : signed } },
    root: buildX509Certificate(commonOf({}).certificates.root),
    config: scene.config,
    reportData: scene.reportData,
  };
}

function nitroSpecs(): VendorSpec<NitroScene>[] {
  const document = (
    title: string,
    reason: string | undefined,
    members: Record<string, CborValue>,
  ): VendorSpec<NitroScene> => ({
    title,
    ...(reason && { reason }),
    change: (scene) => Object.assign(scene.document, members),
  });
  return [
    { title: "good evidence" },
    ...chainSpecs(),
    document("made an hour ago", undefined, { timestamp: (NOW - 3600) * 1000 }),
    document("made more than an hour ago", "evidence-expired", {
      timestamp: (NOW - 3601) * 1000,
    }),
    document("made in 301 seconds", "evidence-not-yet-valid", { timestamp: (NOW + 301) * 1000 }),
    document("debug mode", "debug-enabled", { pcrs: pcrs(0, 0, 0) }),
    document("no registers", "debug-enabled", { pcrs: new Map() }),
    document("another image", "os-image-register-mismatch", { pcrs: pcrs(1, 2, 4) }),
    document("registers of 32 bytes", "evidence-malformed", {
      pcrs: new Map([[0, filled(32, 1)]]),
    }),
    document("a register beyond the last", "evidence-malformed", {
      pcrs: new Map([[32, filled(48, 1)]]),
    }),
    document("another digest", "evidence-malformed", { digest: "SHA512" }),
    document("no module", "evidence-malformed", { module_id: "" }),
    document("no time", "evidence-malformed", { timestamp: null }),
    document("no bundle", "evidence-malformed", { cabundle: [] }),
    document("no user data", "report-data-mismatch", { user_data: null }),
    document("other user data", "report-data-mismatch", { user_data: filled(64, 1) }),
    document("registers of both kinds", "evidence-malformed", { nitrotpm_pcrs: pcrs(1) }),
    {
      title: "signature with a bit flipped",
      reason: "quote-signature-invalid",
      patch: flipped(-1),
    },
    { title: "payload with a bit flipped", reason: "quote-signature-invalid", patch: flipMarker },
    {
      title: "byte behind the document",
      reason: "evidence-malformed",
      patch: (bytes) => Uint8Array.of(...bytes, 0),
    },
    {
      title: "document without its last byte",
      reason: "evidence-malformed",
      patch: (bytes) => bytes.slice(0, -1),
    },
    { title: "document with its tag", patch: (bytes) => Uint8Array.of(0xd2, ...bytes) },
    { title: "nothing", reason: "evidence-malformed", patch: () => new Uint8Array(0) },
    {
      title: "leaf of another key than the signer's",
      reason: "quote-signature-invalid",
      change: change("leaf", { subject: { ...LEAF, key: STRANGER.key } }),
    },
    {
      title: "image nobody names",
      reason: "os-image-unknown",
      change: (scene) => scene.config = {},
    },
    {
      title: "image that is not allowed",
      reason: "os-image-not-allowed",
      request: { reference: { os_image_hashes: ["00".repeat(32)] } },
    },
    {
      title: "compose hash that no enclave proves",
      reason: "compose-hash-mismatch",
      request: { reference: { compose_hash: "00".repeat(32) } },
    },
  ];
}

/** In the name of the module: the document stays well formed. */
function flipMarker(bytes: Uint8Array): Uint8Array {
  const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return flipped(text.indexOf("i-1-enc2"))(bytes);
}

// ---- AMD SEV-SNP

interface SnpScene extends Common {
  report: Uint8Array;
  mrConfig: string;
  /** Security versions in the key's certificate: boot loader, TEE, SNP firmware, microcode. */
  certified: number[];
  chipId: Uint8Array;
  product: string;
}

/** The synthetic launch of spec attestation.md 5.7 and the digest it must have. */
const MEASUREMENT =
  "88b48404819692fd2a5068f1a07bf1973bbcaa1314adc670705f9388762a759faf889f8e2c71fe1ec892554415257960";
const IMAGE = encodeCbor(cborMap({
  version: 3,
  cmdline: `console=ttyS0 dstack.rootfs_hash=${"33".repeat(32)}`,
  ovmf_hash: filled(48, 0x44),
  kernel_hash: filled(32, 0x55),
  initrd_hash: filled(32, 0x66),
  hashes_table_gpa: 0x801000,
  reset_eip: 0xfffffff0,
  ovmf_sections: ([
    [0x100000, 0x2000, 1],
    [0x800000, 0x1000, 0x10],
    [0x810000, 0x1000, 2],
    [0x820000, 0x1000, 3],
  ] as const).map(([gpa, size, type]) => cborMap({ gpa, size, type })),
}));
const CHECKSUMS = utf8(`${toHex(sha256(IMAGE))}  measurement.snp.cbor\n`);
const LAUNCH = {
  checksum_file: toBase64(CHECKSUMS),
  measurement: toBase64(IMAGE),
  vcpus: 2,
  vcpu_type: "epyc-v4",
  guest_features: 1,
};
const MR_CONFIG = JSON.stringify({
  app_id: "11".repeat(20),
  compose_hash: "22".repeat(32),
  key_provider: "none",
  version: 3,
});
const ARC = "1.3.6.1.4.1.3704.1";
const CHIP = filled(64, 0x33);
/** Offsets in a report (AMD 56860, table 23). */
const AT = {
  policy: 0x08,
  vmpl: 0x30,
  currentTcb: 0x38,
  platform: 0x40,
  key: 0x48,
  reportData: 0x50,
  measurement: 0x90,
  hostData: 0xc0,
  reportedTcb: 0x180,
  chipId: 0x1a0,
  committedTcb: 0x1e0,
  launchTcb: 0x1f0,
  signature: 0x2a0,
} as const;

function goodReport(): Uint8Array {
  const report = new Uint8Array(1184);
  report.set([3], 0);
  report.set([0, 0, 0x03], AT.policy);
  report.set([1], 0x34); // ECDSA P-384 with SHA-384
  report.set(filled(64, 0xda), AT.reportData);
  report.set(
    Uint8Array.from(MEASUREMENT.match(/../g)!, (byte) => parseInt(byte, 16)),
    AT.measurement,
  );
  report.set([0x19, 0x01], 0x188); // Milan
  for (const at of [AT.currentTcb, AT.reportedTcb, AT.committedTcb, AT.launchTcb]) {
    report.set([1, 2, 0, 0, 0, 0, 3, 4], at);
  }
  report.set(CHIP, AT.chipId);
  return report;
}

function snpOf({ change, patch }: VendorSpec<SnpScene>): Sent {
  const scene: SnpScene = {
    ...commonOf({ serial: 0n }),
    config: {
      os_image_hash: toHex(sha256(CHECKSUMS)),
      sev_snp_measurement: JSON.stringify(LAUNCH),
    },
    report: goodReport(),
    mrConfig: MR_CONFIG,
    certified: [1, 2, 3, 4],
    chipId: CHIP,
    product: "Milan-B0",
  };
  scene.report.set(sha256(utf8(`dstack-mr-config-v3:\0${MR_CONFIG}`)), AT.hostData);
  change?.(scene);
  const { report, certificates, certified, chipId, product } = scene;
  const signature = p384.sign(report.subarray(0, AT.signature), LEAF.key, { lowS: false });
  report.set(signature.slice(0, 48).reverse(), AT.signature);
  report.set(signature.slice(48).reverse(), AT.signature + 72);
  const key = buildX509Certificate({
    ...certificates.leaf,
    extensions: [
      [`${ARC}.2`, der(DER.ia5String, utf8(product))],
      ...[1, 2, 3, 8].map((arc, i) =>
        [`${ARC}.3.${arc}`, derInteger(BigInt(certified[i]!))] as const
      ),
      [`${ARC}.4`, chipId],
      ...certificates.leaf.extensions ?? [],
    ],
  });
  return {
    platform: {
      kind: "sev-snp",
      data: {
        report: patch ? patch(report) : report,
        cert_chain: [key, buildX509Certificate(certificates.ca)],
        mr_config: scene.mrConfig,
      },
    },
    root: buildX509Certificate(commonOf({}).certificates.root),
    config: scene.config,
    reportData: scene.reportData,
    status: "UpToDate",
  };
}

function snpSpecs(): VendorSpec<SnpScene>[] {
  const report = (
    title: string,
    reason: string | undefined,
    ...bytes: readonly (readonly [at: number, ...values: number[]])[]
  ): VendorSpec<SnpScene> => ({
    title,
    ...(reason && { reason }),
    change: (scene) => bytes.forEach(([at, ...values]) => scene.report.set(values, at)),
  });
  const other = (
    title: string,
    reason: string,
    change: (scene: SnpScene) => void,
  ): VendorSpec<SnpScene> => ({ title, reason, change });
  const launch = (changes: object) => JSON.stringify({ ...LAUNCH, ...changes });
  return [
    { title: "good evidence" },
    ...chainSpecs().filter(({ title }) => title !== "leaf for servers" && title !== CA_AS_LEAF),
    // AMD's chain names no purposes, and a CA is not taken for a chip's key in the first place.
    {
      title: CA_AS_LEAF,
      reason: "endorsement-missing",
      change: change("leaf", { caPathLength: 0 }),
    },
    report("version 2", undefined, [0, 2]),
    report("version 5", undefined, [0, 5]),
    report("version 1", "evidence-unsupported", [0, 1]),
    report("version 6", "evidence-unsupported", [0, 6]),
    report("debug policy", "debug-enabled", [AT.policy + 2, 0x0b]),
    report("migration agent", "attributes-not-allowed", [AT.policy + 2, 0x07]),
    report("reserved bit of the policy", "attributes-not-allowed", [AT.policy + 7, 1]),
    report("policy without its one bit", "attributes-not-allowed", [AT.policy + 2, 1]),
    report("SMT against the policy", "attributes-not-allowed", [AT.policy + 2, 2], [
      AT.platform,
      1,
    ]),
    report("privilege level 1", "attributes-not-allowed", [AT.vmpl, 1]),
    report("masked key", "quote-signature-invalid", [AT.key, 2]),
    report("no key", "quote-signature-invalid", [AT.key, 7 << 2]),
    report("chip of another certificate", "platform-mismatch", [AT.chipId, 0]),
    report("processor of another product", "platform-mismatch", [0x189, 0x11]),
    report("current TCB above the others", "tcb-status-not-allowed", [AT.currentTcb, 2]),
    report("committed TCB below the others", "tcb-status-not-allowed", [AT.committedTcb, 0]),
    report("launch TCB below the others", "tcb-status-not-allowed", [AT.launchTcb, 0]),
    report("reported TCB of another certificate", "platform-mismatch", [AT.reportedTcb, 2]),
    report("other report data", "report-data-mismatch", [AT.reportData, 0]),
    report("another launch", "os-image-register-mismatch", [AT.measurement, 0xff]),
    report("another launch configuration", "mr-config-id-mismatch", [AT.hostData, 0, 0]),
    other("certificate of another TCB", "platform-mismatch", ({ certified }) => certified[3] = 5),
    other("certificate of an unknown product", "certificate-malformed", (scene) => {
      scene.product = "Venice-A0";
    }),
    other("certificate of another product", "platform-mismatch", (scene) => {
      scene.product = "Genoa-B0";
    }),
    other("launch configuration with another app", "mr-config-id-mismatch", (scene) => {
      scene.mrConfig = MR_CONFIG.replace("11", "12");
    }),
    other("no launch configuration", "mr-config-id-missing", (scene) => scene.mrConfig = ""),
    other("one processor more", "os-image-register-mismatch", ({ config }) => {
      config["sev_snp_measurement"] = launch({ vcpus: 3 });
    }),
    other("another processor model", "os-image-register-mismatch", ({ config }) => {
      config["sev_snp_measurement"] = launch({ vcpu_type: "epyc-milan" });
    }),
    other("other guest features", "os-image-register-mismatch", ({ config }) => {
      config["sev_snp_measurement"] = launch({ guest_features: 3 });
    }),
    other("checksums of another image", "os-image-document-mismatch", ({ config }) => {
      config["os_image_hash"] = "00".repeat(32);
    }),
    other("document that is none", "os-image-document-malformed", ({ config }) => {
      config["sev_snp_measurement"] = "{}";
    }),
    other("no document", "os-image-document-malformed", ({ config }) => {
      delete config["sev_snp_measurement"];
    }),
    other("image nobody names", "os-image-unknown", (scene) => scene.config = {}),
    {
      title: "signature with a bit flipped",
      reason: "quote-signature-invalid",
      patch: flipped(AT.signature + 3),
    },
    {
      title: "report with a bit flipped",
      reason: "quote-signature-invalid",
      patch: flipped(AT.measurement),
    },
    {
      title: "byte behind the report",
      reason: "evidence-malformed",
      patch: (bytes) => Uint8Array.of(...bytes, 0),
    },
    {
      title: "report without its last byte",
      reason: "evidence-malformed",
      patch: (bytes) => bytes.slice(0, -1),
    },
    { title: "nothing", reason: "evidence-malformed", patch: () => new Uint8Array(0) },
    {
      title: "signing key of another than the certificate's",
      reason: "quote-signature-invalid",
      change: change("leaf", { subject: { ...LEAF, key: STRANGER.key } }),
    },
    {
      title: "image that is not allowed",
      reason: "os-image-not-allowed",
      request: { reference: { os_image_hashes: ["00".repeat(32)] } },
    },
    { title: "app that is expected", request: { reference: { app_id: "11".repeat(20) } } },
    {
      title: "app that is not expected",
      reason: "app-id-mismatch",
      request: { reference: { app_id: "12".repeat(20) } },
    },
    {
      title: "compose hash that is not expected",
      reason: "compose-hash-mismatch",
      request: { reference: { compose_hash: "23".repeat(32) } },
    },
    {
      title: "key provider that is not expected",
      reason: "key-provider-mismatch",
      request: { reference: { key_provider: { name: "kms" } } },
    },
  ];
}
