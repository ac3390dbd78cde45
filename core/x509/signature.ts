import { type CryptoProvider, webCrypto } from "../crypto/crypto-provider.ts";
import { DER, DerReader } from "../encoding/der.ts";
import { refusing } from "../errors/refusal.ts";
import { type EcdsaCurve, type EcdsaPublicKey, rawSignature, verifyEcdsa } from "./ecdsa.ts";
import { HASH_BYTES, type RsaHash, type RsaPublicKey, type RsaScheme, verifyRsa } from "./rsa.ts";

export type PublicKey = EcdsaPublicKey | RsaPublicKey;

/** How a certificate or CRL is signed: ECDSA with the hash of the curve's size, or RSA. */
export type SignatureAlgorithm = { readonly ecdsa: EcdsaCurve } | { readonly rsa: RsaScheme };

/** RFC 5758 3.2 */
const ECDSA: Readonly<Record<string, EcdsaCurve>> = {
  "1.2.840.10045.4.3.2": "P-256",
  "1.2.840.10045.4.3.3": "P-384",
};
/** RFC 4055 5 */
const RSA: Readonly<Record<string, RsaHash>> = {
  "1.2.840.113549.1.1.11": "SHA-256",
  "1.2.840.113549.1.1.12": "SHA-384",
  "1.2.840.113549.1.1.13": "SHA-512",
};
const RSA_PSS = "1.2.840.113549.1.1.10";
const MGF1 = "1.2.840.113549.1.1.8";
const HASHES: Readonly<Record<string, RsaHash>> = {
  "2.16.840.1.101.3.4.2.1": "SHA-256",
  "2.16.840.1.101.3.4.2.2": "SHA-384",
  "2.16.840.1.101.3.4.2.3": "SHA-512",
};

/** Reads an AlgorithmIdentifier; undefined for an algorithm nobody here signs with. Throws `input/malformed`. */
export function readSignatureAlgorithm(encoded: Uint8Array): SignatureAlgorithm | undefined {
  const outer = new DerReader(encoded, "signature algorithm");
  const r = outer.enter("signatureAlgorithm");
  outer.end();
  const oid = r.oid("algorithm");
  const curve = ECDSA[oid];
  if (curve) return r.done ? { ecdsa: curve } : undefined;
  const hash = RSA[oid];
  if (hash) {
    const parameters = r.content("parameters", DER.null);
    r.end();
    return parameters.length === 0 ? { rsa: { name: "RSASSA-PKCS1-v1_5", hash } } : undefined;
  }
  if (oid !== RSA_PSS || r.done) return undefined;
  const parameters = r.enter("parameters");
  r.end();
  return readPss(parameters);
}

/**
 * RSASSA-PSS-params (RFC 4055 3.1). One hash for message and mask, a salt of its length, trailer 1: all
 * but SHA-1, which the defaults mean, is then spelled out. AMD writes the trailer too, though it is the
 * default.
 */
function readPss(r: DerReader): SignatureAlgorithm | undefined {
  if (r.peek() !== DER.context(0)) return undefined;
  const hash = HASHES[readHash(r.enter("hashAlgorithm", DER.context(0)))];
  if (r.peek() !== DER.context(1)) return undefined;
  const wrapped = r.enter("maskGenAlgorithm", DER.context(1));
  const mask = wrapped.enter("maskGenAlgorithm");
  wrapped.end();
  const isMgf1 = mask.oid("algorithm") === MGF1;
  const maskHash = HASHES[readHash(mask)];
  if (r.peek() !== DER.context(2)) return undefined;
  const saltLength = readSmall(r.enter("saltLength", DER.context(2)));
  const trailer = r.peek() === DER.context(3) ? readSmall(r.enter("trailer", DER.context(3))) : 1;
  r.end();
  const isOne = hash !== undefined && isMgf1 && maskHash === hash &&
    saltLength === HASH_BYTES[hash] && trailer === 1;
  return isOne ? { rsa: { name: "RSA-PSS", hash } } : undefined;
}

/** An AlgorithmIdentifier of a hash: its parameters are NULL or absent. */
function readHash(r: DerReader): string {
  const algorithm = r.enter("hash");
  r.end();
  const oid = algorithm.oid("algorithm");
  algorithm.optional("parameters", DER.null);
  algorithm.end();
  return oid;
}

function readSmall(r: DerReader): number {
  const value = r.small("value");
  r.end();
  return value;
}

/**
 * Whether the key signed `message` with that algorithm; the signature of ECDSA is in DER. Throws a
 * refusal for a signature that is none.
 */
export async function verifySignature(
  key: PublicKey,
  algorithm: SignatureAlgorithm,
  message: Uint8Array,
  signature: Uint8Array,
  crypto: CryptoProvider = webCrypto,
): Promise<boolean> {
  if ("rsa" in algorithm) {
    return "rsaSpki" in key && await verifyRsa(key, algorithm.rsa, message, signature);
  }
  if (!("curve" in key) || key.curve !== algorithm.ecdsa) return false;
  const raw = refusing(
    "certificate-signature-invalid",
    () => rawSignature(signature, key.curve),
  );
  return await verifyEcdsa(key, message, raw, crypto);
}
