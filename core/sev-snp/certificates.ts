import { ByteReader } from "../bytes/byte-reader.ts";
import { fromUtf8, isZero, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { parsePemChain } from "../x509/pem-chain.ts";
import { parseX509Certificate, type X509Certificate } from "../x509/x509-certificate.ts";

const MAX_TABLE_ENTRIES = 16;
const MAX_CERTIFICATES = 8;
const PEM_START = 0x2d; // "-"
const DER_START = 0x30; // SEQUENCE

/** Which entries of the table are certificates of the chain (GHCB specification 2.03, table 8). */
const CHAIN_GUIDS: readonly string[] = [
  "c0b406a4a803495297433fb6014cd0ae", // ARK
  "4ab7b379bbac4fe4a02f05aef327c782", // ASK
  "63da758de6644564adc5f4b93be8accd", // VCEK
  "a8074bc2a25a483eaae639c045a0b8a1", // VLEK
];

/**
 * The certificates that come with a report, in any order, from each form hosts and guests hand out: one
 * PEM or DER certificate an entry, or the kernel's certificate table. Throws `input/malformed`.
 */
export function snpCertificatesOf(entries: readonly Uint8Array[]): X509Certificate[] {
  const certificates = entries.flatMap((entry) => {
    if (entry[0] === PEM_START) return parsePemChain(fromUtf8(entry, "certificate"));
    if (entry[0] === DER_START) return [parseX509Certificate(entry)];
    return readCertificateTable(entry);
  });
  if (certificates.length > MAX_CERTIFICATES) {
    throw new AppError(
      "input/malformed",
      `Cannot use SEV-SNP certificates: ${certificates.length}, at most ${MAX_CERTIFICATES}`,
    );
  }
  return certificates;
}

/** 24-byte entries (GUID, offset, length) up to one of zeros, then the certificates (DER). */
function readCertificateTable(table: Uint8Array): X509Certificate[] {
  const r = new ByteReader(table, "certificate table");
  const certificates: X509Certificate[] = [];
  for (let i = 0; i < MAX_TABLE_ENTRIES; i++) {
    const guid = r.bytes("GUID", 16);
    const offset = r.u32le("offset");
    const length = r.u32le("length");
    if (isZero(guid)) return certificates;
    if (offset + length > table.length) throw r.malformed("entry", "lies beyond the table");
    if (CHAIN_GUIDS.includes(toHex(guid))) {
      certificates.push(parseX509Certificate(table.slice(offset, offset + length)));
    }
  }
  throw r.malformed("table", `has more than ${MAX_TABLE_ENTRIES} entries`);
}
