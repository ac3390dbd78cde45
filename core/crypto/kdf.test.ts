import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { deriveDhSecret, deriveKey, deriveP256 } from "./kdf.ts";
import { k256PublicKey } from "./k256.ts";
import { p256PublicPoint } from "./p256.ts";

// attestation.md 4.4 and the ra-tls kdf test of the reference (kms.md 11.1 vector 1).
const ROOT = fromHex("f57527cea4ab7ffb49af99b158cdc0e3ec06398f528349ea236b7d2afe19cec1");
const CONTEXT = ["context one", "context two"];

test("HKDF is SHA-256 with salt RATLS", () => {
  assert.equal(
    toHex(deriveKey(utf8("input key material"), ["context one"], 32)),
    "fa36cf7506230ec31faf491618f1758748eca2a0be078a40cfffde3736039ab9",
  );
});

test("a P-256 child is the HKDF output itself", () => {
  assert.equal(
    toHex(p256PublicPoint(ROOT)),
    "0491f50522407ce29dce3ed7d31a15d80c1c42f13a23552d2b33a0ce09ee11e47b" +
      "ce95936f3e7f80d195f879e28e1b144ef37ac9ab8e36a690cbf930b775897b27",
  );
  assert.equal(
    toHex(deriveP256(ROOT, CONTEXT)),
    "b60ac47b8fcfbdf96031b9e94f0b60cfe9de05eccb5a1dca41a26f757833c0e7",
  );
});

test("a DH secret hashes the 138-byte PKCS#8 form", () => {
  assert.equal(
    toHex(deriveDhSecret(ROOT, CONTEXT)),
    "663afd58820be8ad645f9c035e93199d114ab16f738db62393bc1d7d623e8813",
  );
});

test("a guest's GetKey derives from the app key and the path", () => {
  const appKey = fromHex("1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2b");
  assert.equal(
    toHex(deriveKey(appKey, ["vms"], 32)),
    "9db79b3fefe69f2a7b7efbc908c854bf845a629023361f2c9cb3db09fb99010f",
  );
});

test("GetKey of the reference's simulator gives its bytes", () => {
  // kms.md 11.1 vector 3 and 11.2
  const appKey = fromHex("d6e88992cdeeee35fe70b5db61ab66cdb191fb9b6ec9313757ef162dd7214d5d");
  const key = deriveKey(appKey, ["/test/path"], 32);
  assert.equal(toHex(key), "b9fbb7171185c421c58610a2acba8ceae93623ae47815618cbad1e98fc042cb7");
  assert.equal(
    toHex(k256PublicKey(key)),
    "02c1082e78670feed1c847db81dbd71be37e4d53200a746c0a89f0afa8173cf566",
  );
  assert.equal(
    toHex(deriveKey(appKey, ["vms"], 32)),
    "1091a4d6721f6a719ca57320e4975f7e237649131111ee1c5032f661dc1cfef2",
  );
});
