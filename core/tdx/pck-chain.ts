import { fromUtf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { CERTIFICATION, type Quote } from "./quote.ts";

/** The PEM chain inside a quote, leaf first. Throws `input/unsupported` for a quote without one. */
export function pckChainOf(quote: Quote): string {
  const { type, bytes } = quote.signatureData.certification;
  if (type !== CERTIFICATION.pckChain) {
    throw new AppError(
      "input/unsupported",
      `The quote carries certification data of type ${type}, not its PCK chain`,
    );
  }
  return fromUtf8(bytes, "PCK chain").replace(/\0+$/, "");
}
