import { gcm } from "@noble/ciphers/aes.js";
import { sha512 } from "@noble/hashes/sha2.js";
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import { concatBytes, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";

/**
 * The attested session: one request and its answer, for where no TLS client certificate can go. The
 * request is sealed to the server's key (HPKE, RFC 9180, base mode); the client's evidence binds the
 * encapsulated key, so that only what was measured can read the answer, which is sealed under a secret
 * exported from the same context (RFC 9180 section 9.8).
 */

const INFO = "dstack-edge-session/v1";
const ANSWER = "dstack-edge-session/v1 answer";
const IV_LENGTH = 12;

export const SESSION_NONCE_LENGTH = 32;
/** Of X25519: the server's public key, and the encapsulated key of a request. */
export const SESSION_KEY_LENGTH = 32;

const suite = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Aes256Gcm(),
});

/** 64 bytes that the client's evidence binds: the server's nonce and key, and its own encapsulated key. */
export function sessionReportData(
  nonce: Uint8Array,
  serverKey: Uint8Array,
  encapsulated: Uint8Array,
): Uint8Array {
  return sha512(concatBytes(utf8("dstack-edge-session:"), nonce, serverKey, encapsulated));
}

/** 64 bytes that the server's own evidence binds. */
export function sessionKeyReportData(serverKey: Uint8Array): Uint8Array {
  return sha512(concatBytes(utf8("dstack-edge-session-key:"), serverKey));
}

export interface SessionKey {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly pair: CryptoKeyPair;
}

export async function generateSessionKey(): Promise<SessionKey> {
  const pair = await suite.kem.generateKeyPair();
  return { pair, publicKey: new Uint8Array(await suite.kem.serializePublicKey(pair.publicKey)) };
}

export interface ClientSession {
  /** 32 bytes, for `sessionReportData`. */
  readonly encapsulated: Uint8Array;
  /** Once. */
  readonly seal: (request: Uint8Array) => Promise<Uint8Array>;
  /** Throws `crypto/decryption-failed`. */
  readonly openAnswer: (sealed: Uint8Array) => Promise<Uint8Array>;
}

/** Begins a session with a server's 32-byte public key, which the caller trusts for its own reasons. */
export async function beginSession(serverKey: Uint8Array): Promise<ClientSession> {
  const recipientPublicKey = await suite.kem.deserializePublicKey(bufferOf(serverKey));
  const context = await suite.createSenderContext({
    recipientPublicKey,
    info: bufferOf(utf8(INFO)),
  });
  const encapsulated = new Uint8Array(context.enc);
  return {
    encapsulated,
    seal: async (request) => new Uint8Array(await context.seal(bufferOf(request))),
    openAnswer: async (sealed) => {
      const key = new Uint8Array(await context.export(bufferOf(utf8(ANSWER)), 32));
      try {
        const iv = sealed.subarray(0, IV_LENGTH);
        return gcm(key, iv).decrypt(sealed.subarray(IV_LENGTH));
      } catch (cause) {
        throw undecryptable(cause);
      } finally {
        key.fill(0);
      }
    },
  };
}

export interface ServerSession {
  readonly request: Uint8Array;
  readonly sealAnswer: (answer: Uint8Array) => Promise<Uint8Array>;
}

/** Opens a request. Throws `crypto/decryption-failed`. */
export async function acceptSession(
  { pair }: SessionKey,
  encapsulated: Uint8Array,
  sealed: Uint8Array,
): Promise<ServerSession> {
  try {
    const context = await suite.createRecipientContext({
      recipientKey: pair,
      enc: bufferOf(encapsulated),
      info: bufferOf(utf8(INFO)),
    });
    const request = new Uint8Array(await context.open(bufferOf(sealed)));
    return {
      request,
      sealAnswer: async (answer) => {
        const key = new Uint8Array(await context.export(bufferOf(utf8(ANSWER)), 32));
        const iv = crypto.getRandomValues(new Uint8Array(IV_LENGTH));
        try {
          return concatBytes(iv, gcm(key, iv).encrypt(answer));
        } finally {
          key.fill(0);
        }
      },
    };
  } catch (cause) {
    throw undecryptable(cause);
  }
}

function undecryptable(cause: unknown): AppError {
  return new AppError("crypto/decryption-failed", "Cannot open: wrong key or changed bytes", {
    cause,
  });
}

function bufferOf(bytes: Uint8Array): ArrayBuffer {
  return bytes.slice().buffer as ArrayBuffer;
}
