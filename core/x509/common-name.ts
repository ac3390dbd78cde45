import { fromUtf8 } from "../bytes/bytes.ts";
import { DER, DerReader } from "../encoding/der.ts";

const COMMON_NAME = "2.5.4.3";
const TEXTS: readonly number[] = [DER.utf8String, DER.printableString, DER.ia5String];

/**
 * The common name of a DER Name (RFC 5280 4.1.2.4), for people to read: names are compared as bytes.
 * Undefined without one. Throws `input/malformed`.
 */
export function commonNameOf(name: Uint8Array): string | undefined {
  const attributes = new DerReader(name, "name").enter("name");
  while (!attributes.done) {
    const set = attributes.enter("attributes", DER.set);
    while (!set.done) {
      const attribute = set.enter("attribute");
      const type = attribute.oid("type");
      const { tag, content } = attribute.any("value");
      if (type === COMMON_NAME && TEXTS.includes(tag)) return fromUtf8(content, "common name");
    }
  }
  return undefined;
}
