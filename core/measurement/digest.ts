/**
 * Digests of whole images: WebCrypto is native everywhere, which matters for tens of megabytes. Small
 * inputs go through @noble/hashes, which needs no promise.
 */
export function sha384Of(bytes: Uint8Array): Promise<Uint8Array> {
  return digest("SHA-384", bytes);
}

export function sha256Of(bytes: Uint8Array): Promise<Uint8Array> {
  return digest("SHA-256", bytes);
}

async function digest(algorithm: "SHA-256" | "SHA-384", bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest(algorithm, bytes as Uint8Array<ArrayBuffer>));
}
