import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { vectorBytes, vectorTest } from "../../tests/vectors.ts";
import { fromHex, fromUtf8, toHex } from "../bytes/bytes.ts";
import { AWS_NITRO_ROOT_G1 } from "../nitro/aws-root.ts";
import { ARK_GENOA, ARK_MILAN, ARK_TURIN } from "../sev-snp/amd-roots.ts";
import { INTEL_SGX_ROOT_CA } from "../tdx/intel-root.ts";
import { GCP_EK_AK_ROOT } from "../tpm/gcp-root.ts";
import { parsePemChain } from "./pem-chain.ts";
import { readSignatureAlgorithm, verifySignature } from "./signature.ts";
import { parseX509Certificate, type X509Certificate } from "./x509-certificate.ts";

const isSignedBy = ({ tbs, signature, signatureAlgorithm }: X509Certificate, by: X509Certificate) =>
  verifySignature(by.publicKey!, signatureAlgorithm!, tbs, signature);

// Digests as the vendors publish them; every root signs itself.
for (
  const [name, der, sha256] of [
    [
      "Intel",
      INTEL_SGX_ROOT_CA,
      "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",
    ],
    ["AWS", AWS_NITRO_ROOT_G1, "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"],
    ["GCP", GCP_EK_AK_ROOT, "594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2"],
    ["Milan", ARK_MILAN, "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"],
    ["Genoa", ARK_GENOA, "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"],
    ["Turin", ARK_TURIN, "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"],
  ] as const
) {
  test(`the root of ${name} is the one published, and signs itself`, async () => {
    assert.equal(createHash("sha256").update(der).digest("hex"), sha256);
    const root = parseX509Certificate(der);
    assert.ok(root.isCa);
    assert.equal(toHex(root.issuer), toHex(root.subject));
    assert.equal(await isSignedBy(root, root), true);
    const changed = parseX509Certificate(der);
    changed.signature[20]! ^= 1;
    assert.equal(await isSignedBy(changed, root), false);
  });
}

vectorTest("AMD's PSS signatures verify, with the trailer spelled out and without", async () => {
  const [ask] = parsePemChain(fromUtf8(vectorBytes("dstack/sev_snp_ask.pem")));
  const [vcek] = parsePemChain(fromUtf8(vectorBytes("dstack/sev_snp_vcek.pem")));
  assert.deepEqual(ask!.signatureAlgorithm, { rsa: { name: "RSA-PSS", hash: "SHA-384" } });
  assert.deepEqual(vcek!.signatureAlgorithm, ask!.signatureAlgorithm);
  assert.equal(await isSignedBy(ask!, parseX509Certificate(ARK_MILAN)), true);
  assert.equal(await isSignedBy(ask!, parseX509Certificate(ARK_GENOA)), false);
  assert.equal(await isSignedBy(vcek!, ask!), true);
});

const SHA384 = "300d06096086480165030402020500";
const pss = (inner: string) => {
  const bytes = (hex: string) => (hex.length / 2).toString(16).padStart(2, "0");
  const parameters = `30${bytes(inner)}${inner}`;
  const body = `06092a864886f70d01010a${parameters}`;
  return `30${bytes(body)}${body}`;
};
const hash = `a00f${SHA384}`;
const mask = (digest: string) => `a11c301a06092a864886f70d010108${digest}`;
const salt = (n: string) => `a2030201${n}`;
for (
  const [what, hex] of [
    ["PSS without parameters", "300b06092a864886f70d01010a"],
    ["PSS with SHA-1, its default", pss("")],
    [
      "PSS with another hash for the mask",
      pss(hash + mask(SHA384.replace("0202", "0201")) + salt("30")),
    ],
    ["PSS with a short salt", pss(hash + mask(SHA384) + salt("20"))],
    ["PSS with another trailer", pss(hash + mask(SHA384) + salt("30") + "a303020102")],
    ["SHA-1 with RSA", "300d06092a864886f70d0101050500"],
    ["ECDSA with parameters", "300c06082a8648ce3d0403020500"],
    ["Ed25519", "300506032b6570"],
  ] as const
) {
  test(`nothing is verified with ${what}`, () => {
    assert.equal(readSignatureAlgorithm(fromHex(hex)), undefined);
  });
}
