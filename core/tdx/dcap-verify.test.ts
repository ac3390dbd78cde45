import assert from "node:assert/strict";
import { test } from "node:test";
import { vectorBytes, vectorTest, vectorText } from "../../tests/vectors.ts";
import { fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { reasonOf } from "../errors/refusal.ts";
import { parseX509Certificate } from "../x509/x509-certificate.ts";
import { parseCollateralJson, type QuoteCollateral } from "./collateral.ts";
import { verifyDcap } from "./dcap-verify.ts";
import { INTEL_SGX_ROOT_CA } from "./intel-root.ts";
import { parseQuote } from "./quote.ts";

const root = parseX509Certificate(INTEL_SGX_ROOT_CA);
const JULY_2025 = Date.UTC(2025, 6, 1) / 1000;
const MARCH_2026 = Date.UTC(2026, 2, 1) / 1000;

const tdxQuote = () => vectorBytes("intel/tdx_quote");
const dstackQuote = () =>
  fromHex((JSON.parse(vectorText("dstack/quote-report.json")) as { quote: string }).quote);
const collateral = (name: string) =>
  parseCollateralJson(vectorText(`intel/${name}_collateral.json`));
const verify = (quote: Uint8Array, from: QuoteCollateral, now: number, graceSeconds = 0) =>
  verifyDcap(parseQuote(quote), from, { root, now, graceSeconds });

async function refusedWith(code: string, run: () => Promise<unknown>): Promise<void> {
  await assert.rejects(run, (error) => {
    assert.equal(reasonOf(error)?.code, code, String(error));
    return true;
  });
}

vectorTest("TDX quote v4 at 2025-07-01 is UpToDate without advisories", async () => {
  const { tcb, platform } = await verify(tdxQuote(), collateral("tdx_quote"), JULY_2025);
  assert.equal(tcb.status, "UpToDate");
  assert.deepEqual(tcb.advisoryIds, []);
  assert.equal(toHex(platform.fmspc), "b0c06f000000");
  assert.equal(toHex(platform.ppid), "811dca2a26b952e85bb6448b097ba4fd");
});

vectorTest("SGX quote v3 at 2025-07-01 needs configuration and software hardening", async () => {
  const quote = vectorBytes("intel/sgx_quote");
  const { tcb } = await verify(quote, collateral("sgx_quote"), JULY_2025);
  assert.equal(tcb.status, "ConfigurationAndSWHardeningNeeded");
  assert.deepEqual(tcb.advisoryIds, ["INTEL-SA-00289", "INTEL-SA-00615"]);
});

vectorTest("a dstack CVM's quote at 2026-03-01 is UpToDate", async () => {
  const { tcb, platform } = await verify(
    dstackQuote(),
    collateral("tdx_quote_outdated"),
    MARCH_2026,
  );
  assert.equal(tcb.status, "UpToDate");
  assert.deepEqual(tcb.advisoryIds, []);
  assert.equal(toHex(platform.ppid), "897d3eb76ea887b783f9ad3d0771034b");
});

vectorTest("collateral of another platform is refused", async () => {
  await refusedWith(
    "platform-mismatch",
    () => verify(tdxQuote(), collateral("tdx_quote_outdated"), MARCH_2026),
  );
});

vectorTest("collateral is refused before and after its window, and grace prolongs it", async () => {
  const june = collateral("tdx_quote");
  const at = (text: string) => Date.parse(text) / 1000;
  const early = at("2025-06-19T10:16:02Z"); // TCB info: issueDate 10:16:03, QE identity 10:32:27
  await refusedWith("collateral-not-yet-valid", () => verify(tdxQuote(), june, early));
  await verify(tdxQuote(), june, at("2025-06-19T10:32:27Z"));
  await verify(tdxQuote(), june, at("2025-07-19T10:00:35Z"));
  // The PCK CRL is the first to end, 10:00:35.
  const late = at("2025-07-19T10:00:36Z");
  await refusedWith("crl-expired", () => verify(tdxQuote(), june, late));
  await verify(tdxQuote(), june, late, 1);
  const after = at("2025-07-20T00:00:00Z");
  await verify(tdxQuote(), june, after, 86400);
});

vectorTest("a certificate outside its validity gets no grace", async () => {
  const june = collateral("tdx_quote");
  // The PCK certificate ends 2032-02-06.
  const later = Date.UTC(2034, 0, 1) / 1000;
  await refusedWith("certificate-expired", () => verify(tdxQuote(), june, later, 1e9));
});

vectorTest("another root is refused", async () => {
  const pem = collateral("tdx_quote").tcbInfoIssuerChain;
  const leaf = /-----BEGIN[^]*?-----END CERTIFICATE-----/.exec(pem)![0];
  const der = Uint8Array.from(
    atob(leaf.replace(/-----[^-]+-----|\s/g, "")),
    (char) => char.charCodeAt(0),
  );
  const other = parseX509Certificate(der);
  await refusedWith(
    "certificate-untrusted",
    () =>
      verifyDcap(parseQuote(tdxQuote()), collateral("tdx_quote"), {
        root: other,
        now: JULY_2025,
        graceSeconds: 0,
      }),
  );
});

// Offsets in a v4 quote: 48 header, 584 body, 4 length, 64 signature, 64 key, 6, then the QE report.
const SIGNATURE = 636;
const KEY = 700;
const QE_REPORT = 770;
const QE_SIGNATURE = QE_REPORT + 384;
const QE_AUTH = QE_SIGNATURE + 64 + 2;
for (
  const [what, offset, code] of [
    ["MRTD", 184, "quote-signature-invalid"],
    ["the user data", 40, "quote-signature-invalid"],
    ["the quote signature", SIGNATURE + 5, "quote-signature-invalid"],
    ["the attestation key", KEY + 5, "quoting-enclave-binding-invalid"],
    ["the QE report", QE_REPORT + 70, "quoting-enclave-signature-invalid"],
    ["the QE report signature", QE_SIGNATURE + 40, "quoting-enclave-signature-invalid"],
    ["the QE authentication data", QE_AUTH + 3, "quoting-enclave-binding-invalid"],
  ] as const
) {
  vectorTest(`a flipped bit in ${what} is refused`, async () => {
    const quote = tdxQuote();
    quote[offset]! ^= 1;
    await refusedWith(code, () => verify(quote, collateral("tdx_quote"), JULY_2025));
  });
}

const flipText = (text: string, find: string, replace: string) => {
  assert.ok(text.includes(find));
  return text.replace(find, replace);
};
const flipByte = (bytes: Uint8Array, at: number) => {
  const copy = bytes.slice();
  copy[at]! ^= 1;
  return copy;
};
const mutations: readonly (readonly [
  string,
  (from: QuoteCollateral) => Partial<QuoteCollateral>,
  string,
])[] = [
  [
    "TCB info text",
    (c) => ({ tcbInfo: flipText(c.tcbInfo, '"svn":5', '"svn":4') }),
    "collateral-signature-invalid",
  ],
  [
    "white space of the TCB info text",
    (c) => ({ tcbInfo: `${c.tcbInfo} ` }),
    "collateral-signature-invalid",
  ],
  [
    "TCB info signature",
    (c) => ({ tcbInfoSignature: flipByte(c.tcbInfoSignature, 9) }),
    "collateral-signature-invalid",
  ],
  [
    "QE identity text",
    (c) => ({ qeIdentity: flipText(c.qeIdentity, '"isvsvn":4', '"isvsvn":3') }),
    "collateral-signature-invalid",
  ],
  [
    "QE identity signature",
    (c) => ({ qeIdentitySignature: flipByte(c.qeIdentitySignature, 40) }),
    "collateral-signature-invalid",
  ],
  [
    "root CRL",
    (c) => ({ rootCaCrl: flipByte(c.rootCaCrl, c.rootCaCrl.length - 3) }),
    "crl-signature-invalid",
  ],
  [
    "revoked serial of the PCK CRL",
    (c) => {
      const serial = fromHex("6FC34E5023E728923435D61AA4B83C618166AD35"); // its first entry
      const at = toHex(c.pckCrl).indexOf(toHex(serial)) / 2;
      assert.ok(at > 0);
      return { pckCrl: flipByte(c.pckCrl, at + 8) };
    },
    "crl-signature-invalid",
  ],
  ["PCK CRL, absent", (c) => ({ pckCrl: c.rootCaCrl }), "crl-signature-invalid"],
  ["root CRL, absent", (c) => ({ rootCaCrl: c.pckCrl }), "revocation-unknown"],
  ["PCK CRL, truncated", (c) => ({ pckCrl: c.pckCrl.slice(0, -1) }), "crl-malformed"],
  [
    "PCK CRL, extended",
    (c) => ({ pckCrl: Uint8Array.of(...c.pckCrl, 0) }),
    "crl-malformed",
  ],
  [
    "TCB info under the PCK CA",
    (c) => ({ tcbInfoIssuerChain: c.pckCrlIssuerChain }),
    "certificate-usage-invalid",
  ],
  [
    "PCK CRL chain that is a signer's",
    (c) => ({ pckCrlIssuerChain: c.tcbInfoIssuerChain }),
    "certificate-usage-invalid",
  ],
  ["empty chain", () => ({ qeIdentityIssuerChain: "" }), "certificate-malformed"],
  [
    "QE identity and TCB info swapped",
    (c) => ({ tcbInfo: c.qeIdentity, tcbInfoSignature: c.qeIdentitySignature }),
    "collateral-malformed",
  ],
];
for (const [what, mutate, code] of mutations) {
  vectorTest(`collateral is refused for: ${what}`, async () => {
    const good = collateral("tdx_quote");
    const bad = { ...good, ...mutate(good) };
    await refusedWith(code, () => verify(tdxQuote(), bad, JULY_2025));
  });
}

vectorTest("no flipped bit of a quote or its collateral is accepted", async () => {
  const good = collateral("tdx_quote");
  const quote = tdxQuote();
  const text = vectorText("intel/tdx_quote_collateral.json");
  const mutants: (() => Promise<unknown>)[] = [];
  for (let at = 0; at < quote.length; at += 97) {
    const mutant = quote.slice();
    mutant[at]! ^= 1 << (at % 8);
    mutants.push(() => verify(mutant, good, JULY_2025));
  }
  for (let at = 0; at < text.length; at += 97) {
    const flipped = String.fromCharCode(text.charCodeAt(at) ^ 1);
    const mutant = text.slice(0, at) + flipped + text.slice(at + 1);
    mutants.push(() => verify(quote, parseCollateralJson(mutant), JULY_2025));
  }
  for (const mutant of mutants) {
    await assert.rejects(async () => await mutant(), { name: "AppError" });
  }
});

vectorTest("our verdict on the captures is that of @phala/dcap-qvl", async () => {
  interface Qvl {
    verify(
      quote: Uint8Array,
      collateral: unknown,
      now: number,
    ): { status: string; advisory_ids: string[] };
  }
  const specifier = "@phala/dcap-qvl";
  const qvl = (await import(specifier) as { default: Qvl }).default;
  const dcap = (from: QuoteCollateral) => ({
    pck_crl_issuer_chain: from.pckCrlIssuerChain,
    root_ca_crl: Array.from(from.rootCaCrl),
    pck_crl: Array.from(from.pckCrl),
    tcb_info_issuer_chain: from.tcbInfoIssuerChain,
    tcb_info: from.tcbInfo,
    tcb_info_signature: Array.from(from.tcbInfoSignature),
    qe_identity_issuer_chain: from.qeIdentityIssuerChain,
    qe_identity: from.qeIdentity,
    qe_identity_signature: Array.from(from.qeIdentitySignature),
  });
  const cases = [
    [tdxQuote(), "tdx_quote", JULY_2025],
    [vectorBytes("intel/sgx_quote"), "sgx_quote", JULY_2025],
    [dstackQuote(), "tdx_quote_outdated", MARCH_2026],
    [tdxQuote(), "tdx_quote_outdated", MARCH_2026],
    [dstackQuote(), "tdx_quote", JULY_2025],
    [tdxQuote(), "tdx_quote", MARCH_2026],
  ] as const;
  for (const [quote, name, now] of cases) {
    const ours = await verify(quote, collateral(name), now).then(
      ({ tcb }) => ({ status: tcb.status as string, advisoryIds: tcb.advisoryIds }),
      (error: unknown) => (assert.ok(reasonOf(error)), "refused"),
    );
    let theirs: unknown;
    try {
      const { status, advisory_ids } = qvl.verify(quote, dcap(collateral(name)), now);
      theirs = { status, advisoryIds: advisory_ids };
    } catch {
      theirs = "refused";
    }
    assert.deepEqual(ours, theirs, `${name} at ${now}`);
  }
});

test("malformed collateral JSON is refused as input", () => {
  for (const text of ["", "[]", '{"tcb_info":1}', '{"unknown":""}']) {
    assert.throws(() => parseCollateralJson(utf8(text)), { code: "input/malformed" });
  }
});
