/** A semantic version; `pre` holds the dot-separated pre-release identifiers. */
export interface Version {
  readonly numbers: readonly [number, number, number];
  readonly pre: readonly string[];
}

type Operator = "=" | ">" | ">=" | "<" | "<=" | "~" | "^" | "*";

interface Comparator {
  readonly operator: Operator;
  readonly major: number;
  readonly minor: number | undefined;
  readonly patch: number | undefined;
  readonly pre: readonly string[];
}

export type VersionRequirement = readonly Comparator[];

const IDENTIFIERS = "[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*";
const NUMBER = "(0|[1-9][0-9]{0,8})";
const VERSION = new RegExp(
  `^${NUMBER}\\.${NUMBER}\\.${NUMBER}(?:-(${IDENTIFIERS}))?(?:\\+${IDENTIFIERS})?$`,
);
const COMPARATOR = new RegExp(
  `^(=|>=|>|<=|<|~|\\^)?\\s*${NUMBER}(?:\\.(?:([*xX])|${NUMBER})(?:\\.(?:([*xX])|${NUMBER}` +
    `(?:-(${IDENTIFIERS}))?(?:\\+${IDENTIFIERS})?))?)?$`,
);

/** undefined for text that is no semantic version. */
export function parseVersion(text: string): Version | undefined {
  const match = VERSION.exec(text);
  if (match === null) return undefined;
  const pre = match[4]?.split(".") ?? [];
  if (pre.some((id) => /^0[0-9]+$/.test(id))) return undefined;
  return { numbers: [Number(match[1]), Number(match[2]), Number(match[3])], pre };
}

/** Cargo's requirement syntax: comparators joined by commas, a bare version meaning `^`. */
export function parseVersionRequirement(text: string): VersionRequirement | undefined {
  if (/^[*xX]$/.test(text.trim())) return [];
  const comparators: Comparator[] = [];
  for (const part of text.split(",")) {
    const match = COMPARATOR.exec(part.trim());
    if (match === null) return undefined;
    const [, operator, major, anyMinor, minor, anyPatch, patch, pre] = match;
    if (anyMinor !== undefined && (patch !== undefined || anyPatch !== undefined)) return undefined;
    const wildcard = anyMinor !== undefined || anyPatch !== undefined;
    comparators.push({
      operator: (operator as Operator | undefined) ?? (wildcard ? "*" : "^"),
      major: Number(major),
      minor: minor === undefined ? undefined : Number(minor),
      patch: patch === undefined ? undefined : Number(patch),
      pre: pre?.split(".") ?? [],
    });
  }
  return comparators;
}

/** As Cargo: a pre-release only matches where a comparator of the same version names one. */
export function matchesVersion(requirement: VersionRequirement, version: Version): boolean {
  if (!requirement.every((comparator) => matches(comparator, version))) return false;
  return version.pre.length === 0 ||
    requirement.some(({ major, minor, patch, pre }) =>
      pre.length > 0 && [major, minor, patch].join() === version.numbers.join()
    );
}

function matches(c: Comparator, v: Version): boolean {
  switch (c.operator) {
    case "=":
    case "*":
      return isSame(c, v);
    case ">":
      return isGreater(c, v);
    case ">=":
      return isSame(c, v) || isGreater(c, v);
    case "<":
      return !isSame(c, v) && !isGreater(c, v);
    case "<=":
      return isSame(c, v) || !isGreater(c, v);
    case "~":
      return c.major === v.numbers[0] && (c.minor ?? v.numbers[1]) === v.numbers[1] &&
        !isLess(c, v);
    case "^":
      return isCaretMatch(c, v);
  }
}

function isSame(c: Comparator, { numbers, pre }: Version): boolean {
  return c.major === numbers[0] && (c.minor ?? numbers[1]) === numbers[1] &&
    (c.patch ?? numbers[2]) === numbers[2] &&
    (c.patch === undefined || comparePre(pre, c.pre) === 0);
}

/** Whether the version lies beyond everything the comparator's parts cover. */
function isGreater(c: Comparator, { numbers, pre }: Version): boolean {
  if (numbers[0] !== c.major) return numbers[0] > c.major;
  if (c.minor === undefined) return false;
  if (numbers[1] !== c.minor) return numbers[1] > c.minor;
  if (c.patch === undefined) return false;
  if (numbers[2] !== c.patch) return numbers[2] > c.patch;
  return comparePre(pre, c.pre) > 0;
}

function isLess(c: Comparator, v: Version): boolean {
  return !isSame(c, v) && !isGreater(c, v);
}

/** Compatible up to the leftmost number that is not zero. */
function isCaretMatch(c: Comparator, v: Version): boolean {
  if (c.major !== v.numbers[0] || isLess(c, v)) return false;
  if (c.major > 0 || c.minor === undefined) return true;
  if (c.minor !== v.numbers[1]) return false;
  return c.minor > 0 || c.patch === undefined || c.patch === v.numbers[2];
}

/** Semantic Versioning 2.0.0 section 11: no pre-release is later than any. */
function comparePre(a: readonly string[], b: readonly string[]): number {
  if (a.length === 0 || b.length === 0) return b.length - a.length;
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const [x, y] = [a[i], b[i]];
    if (x === undefined) return -1;
    if (y === undefined) return 1;
    if (x === y) continue;
    const [xNumeric, yNumeric] = [/^[0-9]+$/.test(x), /^[0-9]+$/.test(y)];
    if (xNumeric && yNumeric) return Number(x) - Number(y);
    if (xNumeric !== yNumeric) return xNumeric ? -1 : 1;
    return x < y ? -1 : 1;
  }
  return 0;
}
