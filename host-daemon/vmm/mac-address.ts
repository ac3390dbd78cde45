import { sha256 } from "@noble/hashes/sha2.js";
import { toHex, utf8 } from "#core/bytes/bytes.ts";

/**
 * MAC of a VM's n-th interface: up to three prefix bytes, then leading bytes of SHA-256 of the VM id;
 * locally administered and unicast (spec/vmm.md section 7.2).
 */
export function macAddress(vmId: string, index: number, prefix: Uint8Array): string {
  const hash = sha256(utf8(index === 0 ? vmId : `${vmId}:${index}`));
  const bytes = new Uint8Array(6);
  bytes.set(prefix.subarray(0, 3));
  bytes.set(hash.subarray(0, 6 - prefix.length), prefix.length);
  bytes[0] = (bytes[0]! & 0xfe) | 0x02;
  return toHex(bytes).match(/../g)!.join(":");
}
