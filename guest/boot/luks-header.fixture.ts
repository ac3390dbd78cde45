import { LUKS_PAYLOAD_OFFSET } from "./luks-header.ts";

export interface HeaderJson {
  // deno-lint-ignore no-explicit-any -- attacks reach anywhere into the document
  [member: string]: any;
}

/** The document cryptsetup writes with our parameters (spec/os.md section 6). */
export function goodJson(): HeaderJson {
  return {
    keyslots: {
      "0": {
        type: "luks2",
        key_size: 64,
        af: { type: "luks1", stripes: 4000, hash: "sha256" },
        area: {
          type: "raw",
          offset: "32768",
          size: "258048",
          encryption: "aes-xts-plain64",
          key_size: 64,
        },
        kdf: { type: "pbkdf2", hash: "sha256", iterations: 1000, salt: "AA==" },
      },
    },
    tokens: {},
    segments: {
      "0": {
        type: "crypt",
        offset: "16777216",
        size: "dynamic",
        iv_tweak: "0",
        encryption: "aes-xts-plain64",
        sector_size: 512,
      },
    },
    digests: {
      "0": {
        type: "pbkdf2",
        keyslots: ["0"],
        segments: ["0"],
        hash: "sha256",
        iterations: 1000,
        salt: "AA==",
        digest: "AA==",
      },
    },
    config: { json_size: "12288", keyslots_size: "16744448" },
  };
}

/** Bytes of each of the two header copies; the second follows the first. */
export const COPY_BYTES = 16384;

/** Both copies by the table of spec/os.md section 6; `json` may be text, to write what JSON.stringify cannot. */
export function header(json: HeaderJson | string, second: HeaderJson | string = json): Uint8Array {
  const bytes = new Uint8Array(LUKS_PAYLOAD_OFFSET);
  for (const [copy, content] of [json, second].entries()) {
    const at = copy * COPY_BYTES;
    const view = new DataView(bytes.buffer, at);
    bytes.set(
      copy === 0 ? [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe] : [0x53, 0x4b, 0x55, 0x4c, 0xba, 0xbe],
      at,
    );
    view.setUint16(6, 2);
    view.setBigUint64(8, BigInt(COPY_BYTES));
    view.setBigUint64(16, 3n);
    bytes.set(new TextEncoder().encode("sha256"), at + 0x48);
    view.setBigUint64(0x100, BigInt(at));
    const text = typeof content === "string" ? content : JSON.stringify(content);
    bytes.set(new TextEncoder().encode(text), at + 0x1000);
  }
  return bytes;
}
