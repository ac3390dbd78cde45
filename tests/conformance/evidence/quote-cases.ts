import { concatBytes, toHex } from "#core/bytes/bytes.ts";
import { accepted, type CaseSpec, refused, spoiled } from "./case-spec.ts";
import { keyOf } from "./pki.ts";
import { filled, type Material, offsetsOf, type SceneKind } from "./scene.ts";

const OTHER = keyOf("somebody else");

/** The quote's own bytes: form, lengths, signatures, the quoting enclave. */
export function quoteCases(kind: SceneKind): CaseSpec[] {
  const at = offsetsOf(kind);
  const isTdx = kind !== "sgx-v3";
  const unsupported = "evidence-unsupported";
  const malformed = "evidence-malformed";
  const flip = (offset: number, bit = 0) => ({ quote }: Material) => {
    quote[offset]! ^= 1 << bit;
  };
  const cut = (length: number) =>
    spoiled(malformed, `quote cut off after ${length} bytes`, (m) => {
      m.quote = m.quote.slice(0, length);
    });
  const extend = (m: Material, tail: Uint8Array) => void (m.quote = concatBytes(m.quote, tail));
  const u32 = (offset: number, change: (value: number) => number) => ({ quote }: Material) => {
    const view = new DataView(quote.buffer, quote.byteOffset);
    view.setUint32(offset, change(view.getUint32(offset, true)), true);
  };
  return [
    accepted("nothing is wrong", () => {}),
    {
      title: "zero padding behind the quote",
      patch: (m) => void extend(m, filled(70, 0)),
      expect: { outcome: "accepted", status: "UpToDate" },
    },
    spoiled(malformed, "a byte behind the quote", (m) => void extend(m, filled(1, 1))),
    spoiled(malformed, "padding whose last byte is not zero", (m) => {
      extend(m, Uint8Array.from([...filled(69, 0), 1]));
    }),
    spoiled(malformed, "a quote behind the quote", (m) => void extend(m, m.quote)),
    spoiled(malformed, "no quote at all", (m) => void (m.quote = new Uint8Array(0))),
    ...[
      1,
      2,
      8,
      47,
      at.body,
      at.body + 100,
      at.authLength,
      at.authLength + 3,
      at.signature,
      at.attestationKey,
      at.attestationKey + 40,
      at.qeReport,
      at.qeReportSignature,
      at.qeAuthLength,
      at.innerLength,
      at.chain,
      at.chain + 500,
    ].map(cut),
    ...[0, 1, 2, 6, 7, 0xffff].map((version) =>
      refused(unsupported, `version ${version}`, ({ header }) => void (header.version = version))
    ),
    ...[0, 1, 3, 0xffff].map((keyType) =>
      refused(unsupported, `attestation key type ${keyType}`, ({ header }) => {
        header.keyType = keyType;
      })
    ),
    ...[0x80, 0x82, 0x100, 0x81000000].map((teeType) =>
      refused(unsupported, `TEE type 0x${teeType.toString(16)}`, ({ header }) => {
        header.teeType = teeType;
      })
    ),
    refused(unsupported, "QE vendor is not Intel", ({ header }) => {
      header.vendorId = filled(16, 0x11);
    }),
    ...(kind.startsWith("tdx-v5")
      ? [
        ...[0, 4, 0xffff].map((type) =>
          refused(unsupported, `body type ${type}`, ({ body }) => void (body.type = type))
        ),
        ...[0, 583, 649, 0xffffffff].map((size) =>
          refused(malformed, `body size ${size}`, ({ body }) => void (body.size = size))
        ),
      ]
      : []),
    spoiled(malformed, "signature data a byte longer than they are", (m) => {
      u32(at.authLength, (length) => length + 1)(m);
    }),
    spoiled(malformed, "signature data a byte shorter than they are", (m) => {
      u32(at.authLength, (length) => length - 1)(m);
    }),
    spoiled(malformed, "signature data of 4 GiB", (m) => u32(at.authLength, () => 0xffffffff)(m)),
    spoiled(
      malformed,
      "certification data of 4 GiB",
      (m) => u32(at.innerLength, () => 0xffffffff)(m),
    ),
    spoiled(malformed, "certification data a byte longer than they are", (m) => {
      u32(at.innerLength, (length) => length + 1)(m);
    }),
    spoiled(malformed, "certification data a byte shorter than they are", (m) => {
      u32(at.innerLength, (length) => length - 1)(m);
    }),
    ...(isTdx
      ? [
        spoiled(
          unsupported,
          "outer certification data of another type",
          flip(at.certificationType),
        ),
        spoiled(malformed, "outer certification data of another length", (m) => {
          u32(at.certificationType + 2, (length) => length - 1)(m);
        }),
      ]
      : []),
    ...[1, 4, 6, 7].map((type) =>
      refused("endorsement-missing", `certification data of type ${type}`, (scene) => {
        scene.certification.type = type;
      })
    ),

    spoiled("quote-signature-invalid", "QE SVN of the header changed", flip(8)),
    spoiled("quote-signature-invalid", "user data of the header changed", flip(47, 7)),
    ...[0, 63, 64, 100, 200, 300, 383].map((offset) =>
      spoiled("quote-signature-invalid", `byte ${offset} of the body changed`, (m) => {
        m.quote[at.body + offset]! ^= 0x80;
      })
    ),
    spoiled("quote-signature-invalid", "signature changed", flip(at.signature + 10)),
    spoiled("quote-signature-invalid", "signature of zeros", ({ quote }) => {
      quote.fill(0, at.signature, at.attestationKey);
    }),
    spoiled("quote-signature-invalid", "r and s of the signature swapped", ({ quote }) => {
      const r = quote.slice(at.signature, at.signature + 32);
      quote.copyWithin(at.signature, at.signature + 32, at.signature + 64);
      quote.set(r, at.signature + 32);
    }),
    spoiled("quoting-enclave-binding-invalid", "attestation key changed", flip(at.attestationKey)),
    spoiled("quoting-enclave-binding-invalid", "attestation key of zeros", ({ quote }) => {
      quote.fill(0, at.attestationKey, at.certificationType);
    }),
    refused("quoting-enclave-signature-invalid", "QE report signed by somebody else", (scene) => {
      scene.qeReportSigner = OTHER;
    }),
    spoiled("quoting-enclave-signature-invalid", "QE report changed", flip(at.qeReport + 70)),
    spoiled(
      "quoting-enclave-signature-invalid",
      "QE report's signature changed",
      flip(at.qeReportSignature),
    ),
    spoiled(
      "quoting-enclave-binding-invalid",
      "QE authentication data changed",
      flip(at.qeAuthLength + 2),
    ),
    refused(
      "quoting-enclave-binding-invalid",
      "QE report data with more than the binding",
      (scene) => {
        scene.qeReportDataTail = filled(32, 1);
      },
    ),
    ...[0, 31, 33].map((length) =>
      refused(
        "quoting-enclave-binding-invalid",
        `QE authentication data of ${length} bytes`,
        (scene) => {
          scene.qeAuthData = filled(length, 7);
        },
      )
    ),
    refused("quoting-enclave-identity-mismatch", "QE of another signer", ({ qeReport }) => {
      qeReport.mrSigner = filled(32, 1);
    }),
    refused("quoting-enclave-identity-mismatch", "QE of another product", ({ qeReport }) => {
      qeReport.isvProdId = 3;
    }),
    refused("quoting-enclave-identity-mismatch", "QE with another MISCSELECT", ({ qeReport }) => {
      qeReport.miscSelect = Uint8Array.of(0, 0, 0, 0x80);
    }),
    accepted("QE with another MISCSELECT outside the mask", ({ qeReport, qeIdentity }) => {
      qeReport.miscSelect = Uint8Array.of(1, 0, 0, 0);
      qeIdentity.miscselectMask = "FEFFFFFF";
    }),
    refused("quoting-enclave-identity-mismatch", "QE with another attribute", ({ qeReport }) => {
      qeReport.attributes[0]! ^= 0x20;
    }),
    accepted("QE with another attribute outside the mask", ({ qeReport }) => {
      qeReport.attributes[0]! ^= 0x04;
    }),
    refused("debug-enabled", "QE in debug mode", ({ qeReport, qeIdentity }) => {
      qeReport.attributes[0]! |= 0x02;
      qeIdentity.attributes = "13000000000000000000000000000000";
    }),
    accepted("another build of the QE by the same signer", ({ qeReport }) => {
      qeReport.mrEnclave = filled(32, 0x42);
    }),

    {
      ...accepted("the report data expected", () => {}),
      kind: "binding",
      request: { report_data: toHex(filled(64, 0xda)) },
    },
    ...[0, 31, 32, 63].map((byte): CaseSpec => {
      const reportData = filled(64, 0xda);
      reportData[byte]! ^= 1;
      return {
        ...refused("report-data-mismatch", `report data with another byte ${byte}`, () => {}),
        kind: "binding",
        request: { report_data: toHex(reportData) },
      };
    }),
  ];
}
