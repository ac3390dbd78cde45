/** HTTP statuses our errors map to. */
export type ErrorStatus = 400 | 401 | 403 | 404 | 409 | 413 | 429 | 500 | 502 | 503 | 507;

/**
 * Every error code of the project, in the order of the layers that throw them. Codes are stable:
 * clients branch on them, so one may be added but never renamed.
 */
export const CATALOG = {
  "input/malformed": { status: 400, title: "Malformed input" },
  "input/too-large": { status: 413, title: "Input is too large" },
  "input/unsupported": { status: 400, title: "Unsupported input" },
  "auth/unauthenticated": { status: 401, title: "Authentication required" },
  "auth/forbidden": { status: 403, title: "Not allowed" },
  "resource/not-found": { status: 404, title: "Not found" },
  "resource/conflict": { status: 409, title: "Conflict with the current state" },
  "resource/exhausted": { status: 507, title: "Resource exhausted" },
  "upstream/unavailable": { status: 503, title: "A service this one depends on is unavailable" },
  "upstream/invalid": { status: 502, title: "A service this one depends on answered wrongly" },
  "upstream/refused": { status: 502, title: "A service this one depends on refused" },
  "upstream/untrusted": { status: 502, title: "A service this one depends on is not trusted" },
  "process/failed": { status: 500, title: "A program this one runs failed" },
  "internal": { status: 500, title: "Internal error" },

  "attestation/missing": { status: 403, title: "No attestation provided" },
  "attestation/report-data-mismatch": {
    status: 403,
    title: "Report data does not bind this request",
  },
  "attestation/refused": { status: 403, title: "Attestation refused" },

  // core/crypto, core/ra-tls, functions/kms, functions/auth
  "crypto/invalid-signature": { status: 403, title: "Invalid signature" },
  "crypto/decryption-failed": { status: 400, title: "Decryption failed" },
  "certificate/untrusted": { status: 403, title: "Certificate is not trusted" },
  "kms/denied": { status: 403, title: "Keys are not released" },
  "kms/not-ready": { status: 503, title: "The KMS cannot release keys yet" },

  "compose/unsupported": { status: 400, title: "The app-compose asks for what is not supported" },
  "compose/requirement-unmet": {
    status: 403,
    title: "A requirement of the app-compose is not met",
  },
  "compose/launch-token-mismatch": { status: 403, title: "The launch token does not match" },
  "measurement/mr-config-mismatch": {
    status: 403,
    title: "The launch configuration does not match the app",
  },
  "measurement/image-mismatch": { status: 403, title: "The image is not what its digests say" },
  "measurement/unsupported": {
    status: 400,
    title: "No measurement can be predicted for this shape",
  },

  "os-build/tool-missing": { status: 503, title: "A build tool is missing" },
  "os-build/command-failed": { status: 500, title: "A build command failed" },
  "os-build/disk-full": { status: 507, title: "The disk is full" },
  "os-build/package-unavailable": { status: 502, title: "A Debian package cannot be fetched" },
  "os-build/image-invalid": { status: 500, title: "The built image breaks its own rules" },

  "config/invalid": { status: 400, title: "Invalid configuration" },

  "host/qemu-too-old": { status: 503, title: "QEMU is too old" },
  "host/qemu-unusable": { status: 503, title: "QEMU cannot be used" },
  "host/tee-unavailable": { status: 503, title: "This host lacks the TEE the image asks for" },
  "host/port-taken": { status: 409, title: "Host port is already taken" },
  "image/not-found": { status: 404, title: "Image not found" },
  "image/invalid": { status: 400, title: "Image is not usable" },
  "image/digest-mismatch": { status: 400, title: "Image does not match its checksums" },
  "cvm/not-found": { status: 404, title: "CVM not found" },
  "cvm/state": { status: 409, title: "The CVM's state does not allow this" },
  "cvm/compose-changed": {
    status: 409,
    title: "The app-compose changed since the CVM was created",
  },
  "cvm/launch-failed": { status: 500, title: "The CVM could not be started" },
  "guest/host-share": { status: 503, title: "The host's share cannot be read" },
  "guest/host-file": { status: 400, title: "A file of the host is not acceptable" },
  "guest/system": { status: 500, title: "The guest system is not up" },
  "guest/tee": { status: 503, title: "The TEE cannot be used" },
  "guest/kms-unavailable": { status: 503, title: "No KMS answers" },
  "guest/kms-refused": { status: 403, title: "The KMS refuses to release keys" },
  "guest/kms-untrusted": { status: 403, title: "The KMS is not the one the app names" },
  "guest/disk": { status: 503, title: "The data disk cannot be used" },
  "guest/disk-header": { status: 403, title: "The data disk's LUKS header is not acceptable" },
  "guest/command-failed": { status: 500, title: "A command in the guest failed" },
  "guest/gateway": { status: 503, title: "No gateway registers the app" },
  "guest/app-failed": { status: 503, title: "The app's containers do not start" },
} as const satisfies Record<string, { status: ErrorStatus; title: string }>;

export type ErrorCode = keyof typeof CATALOG;
