import "@abraham/reflection";
import * as x509 from "@peculiar/x509";
import type { TlsIdentity } from "./https-server.ts";

/** Certificates for the tests of this folder; made anew each time, so that none expires. */
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const DAY_MS = 86_400_000;

interface Authority {
  readonly certificate: x509.X509Certificate;
  readonly keys: CryptoKeyPair;
}

export interface TestCertificates {
  readonly caPem: string;
  readonly otherCaPem: string;
  /** For localhost and 127.0.0.1, under an intermediate of the CA. */
  readonly server: TlsIdentity;
  readonly renewedServer: TlsIdentity;
  readonly client: TlsIdentity;
  /** Under the other CA. */
  readonly stranger: TlsIdentity;
  readonly expiredClient: TlsIdentity;
}

export async function createTestCertificates(): Promise<TestCertificates> {
  const root = await createAuthority("root");
  const other = await createAuthority("other root");
  const intermediate = await createAuthority("intermediate", root);
  const names = new x509.SubjectAlternativeNameExtension([
    { type: "dns", value: "localhost" },
    { type: "ip", value: "127.0.0.1" },
  ]);
  return {
    caPem: root.certificate.toString("pem"),
    otherCaPem: other.certificate.toString("pem"),
    server: await createLeaf("server", intermediate, "serverAuth", [names]),
    renewedServer: await createLeaf("renewed", intermediate, "serverAuth", [names]),
    client: await createLeaf("client", intermediate, "clientAuth"),
    stranger: await createLeaf("stranger", other, "clientAuth"),
    expiredClient: await createLeaf("expired", root, "clientAuth", [], -DAY_MS),
  };
}

async function createAuthority(name: string, issuer?: Authority): Promise<Authority> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: `CN=${name}`,
    issuer: issuer?.certificate.subject ?? `CN=${name}`,
    publicKey: keys.publicKey,
    signingKey: (issuer?.keys ?? keys).privateKey,
    signingAlgorithm: ALGORITHM,
    notAfter: new Date(Date.now() + DAY_MS),
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
    ],
  });
  return { certificate, keys };
}

async function createLeaf(
  name: string,
  issuer: Authority,
  usage: "serverAuth" | "clientAuth",
  extensions: x509.Extension[] = [],
  validForMs = DAY_MS,
): Promise<TlsIdentity> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: `CN=${name}`,
    issuer: issuer.certificate.subject,
    publicKey: keys.publicKey,
    signingKey: issuer.keys.privateKey,
    signingAlgorithm: ALGORITHM,
    notBefore: new Date(Date.now() - 2 * DAY_MS),
    notAfter: new Date(Date.now() + validForMs),
    extensions: [
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage[usage]]),
      ...extensions,
    ],
  });
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    certPem: `${certificate.toString("pem")}\n${issuer.certificate.toString("pem")}\n`,
    keyPem: x509.PemConverter.encode(pkcs8, "PRIVATE KEY"),
  };
}
