import { AppError } from "#core/errors/app-error.ts";

/**
 * A value that may stand inside one of QEMU's `key=value,key=value` options. QEMU splits such options
 * at commas, so a path or name that holds one could add options of its own; `=` and control
 * characters are refused with it. Throws `input/malformed`.
 */
export function optionValue(field: string, value: string | number): string {
  const text = String(value);
  // deno-lint-ignore no-control-regex
  if (text === "" || /[,=\x00-\x1f\x7f]/.test(text)) {
    throw new AppError(
      "input/malformed",
      `${field} cannot be passed to QEMU: it is empty or holds ',', '=' or a control character`,
    );
  }
  return text;
}

/** An argument of its own (not split by QEMU): only control characters are refused. */
export function plainValue(field: string, value: string): string {
  // deno-lint-ignore no-control-regex
  if (value === "" || /[\x00-\x1f\x7f]/.test(value)) {
    throw new AppError(
      "input/malformed",
      `${field} cannot be passed to QEMU: it is empty or holds a control character`,
    );
  }
  return value;
}
