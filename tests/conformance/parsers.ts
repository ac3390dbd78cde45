import { parseTrustAnchor } from "#core/attestation/trust-anchor.ts";
import { decodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { decodeAttestationV1 } from "#core/attestation/attestation-v1.ts";
import { fromBase64, fromHex, fromUtf8, toHex, utf8 } from "#core/bytes/bytes.ts";
import { parseAppCompose } from "#core/compose/app-compose.ts";
import { parseByteSize } from "#core/compose/byte-size.ts";
import { parseGpuPolicy } from "#core/compose/gpu-policy.ts";
import { parseMrConfigV3 } from "#core/compose/mr-config.ts";
import { parseSemver, parseSemverRequirement } from "#core/compose/semver.ts";
import { parseEnv } from "#core/crypto/env-encryption.ts";
import { openSealedBox } from "#core/crypto/sealed-box.ts";
import { encodeP256Pkcs8, p256Spki, parseP256Pkcs8, parseP256Spki } from "#core/crypto/p256.ts";
import { decodeMsgpack } from "#core/encoding/msgpack.ts";
import { decodeOnePem, decodePem } from "#core/encoding/pem.ts";
import { parseRfc3339 } from "#core/encoding/rfc3339.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { encodeCcel, parseCcel } from "#core/event-log/ccel.ts";
import { parseTcgLog } from "#core/event-log/tcg-log.ts";
import { parseEventLogJson } from "#core/event-log/tdx-event.ts";
import { parseAcpiTables } from "#core/measurement/acpi/acpi-table.ts";
import { decodeCbor } from "#core/encoding/cbor.ts";
import { parseChecksumFile } from "#core/measurement/checksum-file.ts";
import { parseImageManifest } from "#core/measurement/image-manifest.ts";
import { parseTdHobWitness } from "#core/measurement/td-hob.ts";
import { parseTdvf } from "#core/measurement/tdvf.ts";
import { parseTdxMeasurementDocument } from "#core/measurement/tdx-measurement-document.ts";
import { parseVmConfig } from "#core/measurement/vm-config.ts";
import { decodeAppInfo } from "#core/ra-tls/app-info.ts";
import { parseCertificate, parseCertificatePem, parseChainPem } from "#core/ra-tls/certificate.ts";
import { parseIpAddress } from "#core/ra-tls/ip-address.ts";
import { parseCollateralJson } from "#core/tdx/collateral.ts";
import { parsePckChain } from "#core/tdx/dcap-verify.ts";
import { parseQeIdentity } from "#core/tdx/qe-identity.ts";
import { parseQuote } from "#core/tdx/quote.ts";
import { parseSgxReportBody } from "#core/tdx/sgx-report-body.ts";
import { parseTcbInfo } from "#core/tdx/tcb-info.ts";
import { parseCrl } from "#core/x509/certificate-revocation-list.ts";
import { parsePemChain } from "#core/x509/pem-chain.ts";
import { parseX509Certificate } from "#core/x509/x509-certificate.ts";
import { bootLog, containerV0, containerV1, goodEvents, logged } from "./evidence/guest.ts";
import { build, goodScene } from "./evidence/scene.ts";

/** A parser of input nobody vouches for. */
export interface Parser {
  readonly name: string;
  readonly parse: (bytes: Uint8Array) => unknown;
  /** Something well-formed, to be spoilt. */
  readonly sample?: () => Uint8Array;
}

const { quote, collateral, root } = build(goodScene("tdx-v4"));
const rootDer = decodeOnePem("CERTIFICATE", root);
const evidence = {
  quote,
  log: [...bootLog(), ...goodEvents().map(logged)],
  events: goodEvents(),
  reportData: new Uint8Array(64).fill(0xda),
  config: "{}",
};
const key = new Uint8Array(32).fill(5);

function ofText(parse: (text: string) => unknown): Parser["parse"] {
  return (bytes) => parse(fromUtf8(bytes));
}

function ofJson(parse: (value: ReturnType<typeof parseStrictJson>) => unknown): Parser["parse"] {
  return (bytes) => parse(parseStrictJson(bytes, "input"));
}

function parser(name: string, parse: Parser["parse"], sample?: Uint8Array | string): Parser {
  if (sample === undefined) return { name, parse };
  return { name, parse, sample: () => typeof sample === "string" ? utf8(sample) : sample };
}

/** Every parser of core/ by the name of its function; `parsers.test.ts` sees that none is missing. */
export const PARSERS: readonly Parser[] = [
  parser("fromHex", ofText((text) => fromHex(text)), "00ff"),
  parser("fromUtf8", (bytes) => fromUtf8(bytes), "text"),
  parser("fromBase64", ofText((text) => fromBase64(text)), "AAEC"),
  parser("parseStrictJson", (bytes) => parseStrictJson(bytes, "input"), '{"a":[1,{"b":null}]}'),
  parser("decodeMsgpack", (bytes) => decodeMsgpack(bytes, "input", 1 << 20), containerV1(evidence)),
  parser("decodePem", ofText((text) => decodePem("CERTIFICATE", text)), root),
  parser("decodeOnePem", ofText((text) => decodeOnePem("CERTIFICATE", text)), root),
  parser("parseRfc3339", ofText((text) => parseRfc3339(text, "input")), "2026-06-01T12:00:00Z"),
  parser("decodeCbor", (bytes) => decodeCbor(bytes, "input"), Uint8Array.of(0xa1, 0x61, 0x61, 1)),

  parser(
    "parseAppCompose",
    parseAppCompose,
    '{"manifest_version":2,"name":"a","runner":"docker-compose"}',
  ),
  parser("parseByteSize", ofJson((value) => parseByteSize(value, "input")), '"4G"'),
  parser("parseGpuPolicy", ofJson(parseGpuPolicy), "{}"),
  parser("parseSemver", ofText(parseSemver), "1.2.3"),
  parser("parseSemverRequirement", ofText(parseSemverRequirement), ">=1.2, <2"),
  parser("parseMrConfigV3", (bytes) => parseMrConfigV3(bytes)),

  parser("parseP256Spki", parseP256Spki, p256Spki(key)),
  parser("parseP256Pkcs8", parseP256Pkcs8, encodeP256Pkcs8(key)),
  parser("openSealedBox", (bytes) => openSealedBox(key, bytes)),
  parser("parseEnv", parseEnv),

  parser("parseX509Certificate", parseX509Certificate, rootDer),
  parser("parseCrl", parseCrl, fromHex(collateral.pck_crl)),
  parser("parsePemChain", ofText((text) => parsePemChain(text)), collateral.tcb_info_issuer_chain),
  parser("parseCertificate", parseCertificate, rootDer),
  parser("parseCertificatePem", ofText(parseCertificatePem), root),
  parser("parseChainPem", ofText(parseChainPem), collateral.tcb_info_issuer_chain),
  parser("parseTrustAnchor", (bytes) => parseTrustAnchor("input", bytes), root),
  parser("decodeAppInfo", decodeAppInfo),
  parser("parseIpAddress", ofText(parseIpAddress), "::1"),

  parser("parseQuote", parseQuote, quote),
  parser("parsePckChain", (bytes) => {
    const parsed = parseQuote(quote);
    const signatureData = { ...parsed.signatureData, certification: { type: 5, bytes } };
    return parsePckChain(
      { ...parsed, signatureData },
      parseCollateralJson(JSON.stringify(collateral)),
    );
  }, collateral.tcb_info_issuer_chain),
  parser("parseSgxReportBody", parseSgxReportBody, new Uint8Array(384)),
  parser("parseCollateralJson", (bytes) => parseCollateralJson(bytes), JSON.stringify(collateral)),
  parser("parseTcbInfo", ofText(parseTcbInfo), collateral.tcb_info),
  parser("parseQeIdentity", ofText(parseQeIdentity), collateral.qe_identity),

  parser("decodeAttestation", decodeAttestation, containerV0(evidence)),
  parser(
    "decodeAttestationV1",
    (bytes) => decodeAttestationV1(bytes, 1 << 20),
    containerV1(evidence),
  ),
  parser("parseEventLogJson", ofText(parseEventLogJson), JSON.stringify(evidence.log)),
  parser("parseTcgLog", parseTcgLog, encodeCcel([])),
  parser("parseCcel", parseCcel, encodeCcel([])),

  parser("parseTdvf", parseTdvf),
  parser("parseTdHobWitness", parseTdHobWitness),
  parser("parseTdxMeasurementDocument", parseTdxMeasurementDocument),
  parser("parseChecksumFile", parseChecksumFile, `${"ab".repeat(32)}  bzImage\n`),
  parser("parseImageManifest", parseImageManifest),
  parser("parseVmConfig", ofText(parseVmConfig), `{"os_image_hash":"${toHex(key)}"}`),
  parser("parseAcpiTables", parseAcpiTables),
];
