import { DER, DerReader } from "../encoding/der.ts";
import { fromUtf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import type { X509Certificate } from "../x509/x509-certificate.ts";
import { SNP_PRODUCTS, type SnpProduct, type SnpTcb } from "./product.ts";
import type { SnpSigningKey } from "./report.ts";

const ARC = "1.3.6.1.4.1.3704.1";

/** What AMD certified about the key that signs reports (AMD 57230, table 8). */
export interface SnpEndorsementKey {
  /** VCEK: one chip's. VLEK: lent to a cloud, for all its chips. */
  readonly kind: SnpSigningKey;
  readonly product: SnpProduct;
  /** As AMD writes it, with the stepping: `Milan-B0`. */
  readonly productName: string;
  /** The platform's TCB that the key is derived from: a report of another TCB has another key. */
  readonly tcb: SnpTcb;
  /** VCEK only: 64 bytes, 8 on Turin. */
  readonly chipId: Uint8Array | undefined;
  /** VLEK only: the cloud it was lent to. */
  readonly cloud: string | undefined;
}

/** Reads a VCEK's or VLEK's certificate. Throws `input/malformed` or `input/unsupported`. */
export function endorsementKeyOf(certificate: X509Certificate): SnpEndorsementKey {
  const productName = text(certificate, "2");
  const product = SNP_PRODUCTS.find((one) =>
    productName === one || productName.startsWith(`${one}-`)
  );
  if (!product) {
    throw new AppError(
      "input/unsupported",
      `Cannot use SEV-SNP certificate: product ${productName.slice(0, 32)} is unknown`,
    );
  }
  // AMD writes the chip's id as it stands, without an OCTET STRING around it.
  const chipId = certificate.extensions.get(`${ARC}.4`)?.value;
  const cloud = certificate.extensions.has(`${ARC}.5`) ? text(certificate, "5") : undefined;
  if ((chipId === undefined) === (cloud === undefined)) {
    throw malformed("names neither one chip nor one cloud");
  }
  if (chipId && chipId.length !== 64 && chipId.length !== 8) {
    throw malformed(`has a hardware id of ${chipId.length} bytes`);
  }
  return {
    kind: chipId ? "vcek" : "vlek",
    product,
    productName,
    tcb: {
      ...(product === "Turin" ? { fmc: svn(certificate, "9") } : {}),
      bootloader: svn(certificate, "1"),
      tee: svn(certificate, "2"),
      snp: svn(certificate, "3"),
      microcode: svn(certificate, "8"),
    },
    chipId,
    cloud,
  };
}

function svn(certificate: X509Certificate, suffix: string): number {
  const r = new DerReader(value(certificate, `3.${suffix}`), "SEV-SNP certificate");
  const number = r.small("SPL");
  r.end();
  if (number > 255) throw malformed("has a security version beyond 255");
  return number;
}

function text(certificate: X509Certificate, suffix: string): string {
  const r = new DerReader(value(certificate, suffix), "SEV-SNP certificate");
  const content = r.content("text", r.peek() === DER.utf8String ? DER.utf8String : DER.ia5String);
  r.end();
  return fromUtf8(content, "SEV-SNP certificate");
}

function value({ extensions }: X509Certificate, suffix: string): Uint8Array {
  const found = extensions.get(`${ARC}.${suffix}`);
  if (found) return found.value;
  throw malformed(`has no extension ${ARC}.${suffix}`);
}

function malformed(why: string): AppError {
  return new AppError("input/malformed", `Cannot use SEV-SNP certificate: it ${why}`);
}
