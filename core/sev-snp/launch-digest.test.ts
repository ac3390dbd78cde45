import assert from "node:assert/strict";
import { test } from "node:test";
import { sha384 } from "@noble/hashes/sha2.js";
import { parserProperty } from "../../tests/parser-property.ts";
import { vectorBytes, vectorTest } from "../../tests/vectors.ts";
import { fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { decodeAttestation } from "../attestation/versioned-attestation.ts";
import { ovmfHash, type SnpLaunch, snpLaunchDigest, updateLaunchDigest } from "./launch-digest.ts";
import {
  encodeSnpMeasurementDocument,
  parseSnpLaunchMaterial,
  parseSnpMeasurementDocument,
} from "./measurement-document.ts";

/** The synthetic input of spec attestation.md 5.7. */
const SYNTHETIC: SnpLaunch = {
  cmdline: `console=ttyS0 dstack.rootfs_hash=${"33".repeat(32)}`,
  ovmfHash: new Uint8Array(48).fill(0x44),
  kernelHash: new Uint8Array(32).fill(0x55),
  initrdHash: new Uint8Array(32).fill(0x66),
  hashesTableGpa: 0x801000,
  resetEip: 0xfffffff0,
  vcpus: 2,
  vcpuType: "epyc-v4",
  guestFeatures: 1,
  sections: [
    { gpa: 0x100000, size: 0x2000, type: 1 },
    { gpa: 0x800000, size: 0x1000, type: 0x10 },
    { gpa: 0x810000, size: 0x1000, type: 2 },
    { gpa: 0x820000, size: 0x1000, type: 3 },
  ],
};

test("the digests of the specification come out", () => {
  assert.equal(
    toHex(updateLaunchDigest(new Uint8Array(48), 1, 0x1000, sha384(utf8("page")))),
    "3ebc1a70acc0bae5ae2788fae29a0371f983b19a68faf9843064f36040f58571ce5bb6bcdc9c361087073f8cffd92635",
  );
  assert.equal(
    toHex(snpLaunchDigest(SYNTHETIC)),
    "88b48404819692fd2a5068f1a07bf1973bbcaa1314adc670705f9388762a759faf889f8e2c71fe1ec892554415257960",
  );
});

test("the firmware's digest covers each page with its address below 4 GiB", () => {
  const page = (byte: number) => new Uint8Array(4096).fill(byte);
  const one = updateLaunchDigest(new Uint8Array(48), 1, 0xffffe000, sha384(page(1)));
  const two = updateLaunchDigest(one, 1, 0xfffff000, sha384(page(2)));
  assert.deepEqual(ovmfHash(Uint8Array.of(...page(1), ...page(2))), two);
  assert.throws(() => ovmfHash(new Uint8Array(4095)), { code: "measurement/unsupported" });
});

vectorTest("a real guest's launch digest comes out of its image's measurement material", () => {
  const { platform, stack } = decodeAttestation(vectorBytes("dstack/sev_snp_attestation.bin"));
  assert.ok(platform.kind === "sev-snp");
  const config = JSON.parse(stack.config) as { sev_snp_measurement: string };
  const old = JSON.parse(config.sev_snp_measurement) as {
    base_cmdline: string;
    ovmf_hash: string;
    kernel_hash: string;
    initrd_hash: string;
    sev_hashes_table_gpa: number;
    sev_es_reset_eip: number;
    vcpus: number;
    vcpu_type: string;
    guest_features: number;
    ovmf_sections: { gpa: number; size: number; section_type: number }[];
  };
  const launch: SnpLaunch = {
    cmdline: old.base_cmdline,
    ovmfHash: fromHex(old.ovmf_hash),
    kernelHash: fromHex(old.kernel_hash),
    initrdHash: fromHex(old.initrd_hash),
    hashesTableGpa: old.sev_hashes_table_gpa,
    resetEip: old.sev_es_reset_eip,
    vcpus: old.vcpus,
    vcpuType: old.vcpu_type,
    guestFeatures: old.guest_features,
    sections: old.ovmf_sections.map(({ gpa, size, section_type }) => ({
      gpa,
      size,
      type: section_type,
    })),
  };
  assert.equal(
    toHex(snpLaunchDigest(launch)),
    "7f51e17f72a04d5422cb2c00998166536019a217376f3aa45a630e59c805a599847ff250dbffcd07e1ba639771d6f05d",
  );
  assert.equal(toHex(platform.report.slice(0x90, 0xc0)), toHex(snpLaunchDigest(launch)));
});

vectorTest("the measurement document of an image is read and written back", () => {
  const report = JSON.parse(
    new TextDecoder().decode(vectorBytes("dstack/sev-snp-attestation.json")),
  ) as { attestation: string };
  const { stack } = decodeAttestation(fromHex(report.attestation));
  const config = JSON.parse(stack.config) as { sev_snp_measurement: string };
  const { material } = parseSnpLaunchMaterial(config.sev_snp_measurement);
  const document = parseSnpMeasurementDocument(material.measurement);
  assert.equal(document.sections.length, 7);
  assert.deepEqual(encodeSnpMeasurementDocument(document), material.measurement);
});

const { vcpus: _v, vcpuType: _t, guestFeatures: _f, ...DOCUMENT } = SYNTHETIC;
parserProperty(
  "parseSnpMeasurementDocument()",
  parseSnpMeasurementDocument,
  () => encodeSnpMeasurementDocument(DOCUMENT),
);

const unlike: readonly (readonly [string, Partial<SnpLaunch>])[] = [
  ["no SEV features", { guestFeatures: 0 }],
  ["no root file system", { cmdline: "console=ttyS0" }],
  ["a root hash that is too short", { cmdline: `dstack.rootfs_hash=${"33".repeat(31)}` }],
  ["no processor", { vcpus: 0 }],
  ["513 processors", { vcpus: 513 }],
  ["an unknown processor model", { vcpuType: "epyc-v5" }],
  ["another vendor's model", { vcpuType: "Skylake-Server" }],
  ["no section", { sections: [] }],
  ["65 sections", { sections: Array(65).fill(SYNTHETIC.sections[1]) }],
  ["no page for the hashes", { sections: SYNTHETIC.sections.filter(({ type }) => type !== 0x10) }],
  ["an empty section", { sections: [...SYNTHETIC.sections, { gpa: 0, size: 0, type: 1 }] }],
  ["an unknown section", { sections: [...SYNTHETIC.sections, { gpa: 0, size: 1, type: 5 }] }],
  ["more pages than a guest has", {
    sections: [...SYNTHETIC.sections, { gpa: 0, size: 2 ** 36 + 1, type: 1 }],
  }],
  ["a table beyond its page", { hashesTableGpa: 0x801f51 }],
  ["no table", { hashesTableGpa: 0 }],
  ["no reset vector", { resetEip: 0 }],
];
for (const [what, changes] of unlike) {
  test(`no launch digest is computed with ${what}`, () => {
    assert.throws(() => snpLaunchDigest({ ...SYNTHETIC, ...changes }), {
      code: "measurement/unsupported",
    });
  });
}

test("every input moves the launch digest, white space around the command line does not", () => {
  const base = toHex(snpLaunchDigest(SYNTHETIC));
  const moved: Partial<SnpLaunch>[] = [
    { cmdline: `${SYNTHETIC.cmdline} quiet` },
    { ovmfHash: new Uint8Array(48) },
    { kernelHash: new Uint8Array(32) },
    { initrdHash: new Uint8Array(32) },
    { hashesTableGpa: 0x801010 },
    { resetEip: 0x80b004 },
    { vcpus: 3 },
    { vcpuType: "EPYC-Milan" },
    { guestFeatures: 5 },
    { sections: SYNTHETIC.sections.toReversed() },
  ];
  const digests = moved.map((changes) => toHex(snpLaunchDigest({ ...SYNTHETIC, ...changes })));
  assert.equal(new Set([base, ...digests]).size, moved.length + 1);
  assert.equal(toHex(snpLaunchDigest({ ...SYNTHETIC, cmdline: ` ${SYNTHETIC.cmdline}\n` })), base);
});
