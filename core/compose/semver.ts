import { AppError } from "../errors/app-error.ts";

/** A version by semver.org 2.0; build metadata plays no part in comparisons and is dropped. */
export interface Semver {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** Dot-separated identifiers; empty for a release. */
  readonly pre: readonly string[];
}

const NUMBER = "(0|[1-9][0-9]*)";
const IDENTIFIER = "(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)";
const SUFFIX =
  `(?:-(${IDENTIFIER}(?:\\.${IDENTIFIER})*))?(?:\\+[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*)?`;
const VERSION = new RegExp(`^${NUMBER}\\.${NUMBER}\\.${NUMBER}${SUFFIX}$`);
const COMPARATOR = new RegExp(
  `^(=|>=|>|<=|<|~|\\^)?\\s*${NUMBER}(?:\\.(${NUMBER}|[*xX])(?:\\.(${NUMBER}|[*xX])${SUFFIX})?)?$`,
);

export function parseSemver(text: string): Semver {
  const match = VERSION.exec(text);
  if (match === null) throw malformed(`version ${JSON.stringify(text)}`);
  const [major, minor, patch] = [match[1]!, match[2]!, match[3]!].map(toNumber);
  return { major: major!, minor: minor!, patch: patch!, pre: match[4]?.split(".") ?? [] };
}

/** One condition; `minor` and `patch` are absent where the text leaves them open. */
interface Comparator {
  readonly operator: "=" | ">" | ">=" | "<" | "<=" | "~" | "^";
  readonly major: number;
  readonly minor: number | undefined;
  readonly patch: number | undefined;
  readonly pre: readonly string[];
}

/** Conditions that must all hold; none at all for `*`. */
export type SemverRequirement = readonly Comparator[];

/** Cargo's requirement syntax: comparators separated by commas, a bare version meaning `^`. */
export function parseSemverRequirement(text: string): SemverRequirement {
  if (/^\s*[*xX]\s*$/.test(text)) return [];
  return text.split(",").map((part) => parseComparator(part.trim()));
}

function parseComparator(text: string): Comparator {
  const match = COMPARATOR.exec(text);
  if (match === null) throw malformed(`requirement ${JSON.stringify(text)}`);
  const [, operator, major, minorText, , patchText, , pre] = match;
  const open = (part: string | undefined) => part === undefined || /^[*xX]$/.test(part);
  const isWildcard = [minorText, patchText].some((part) => part !== undefined && open(part));
  if (open(minorText) && !open(patchText)) throw malformed(`requirement ${JSON.stringify(text)}`);
  if (pre !== undefined && open(patchText)) throw malformed(`requirement ${JSON.stringify(text)}`);
  return {
    operator: (operator ?? (isWildcard ? "=" : "^")) as Comparator["operator"],
    major: toNumber(major!),
    minor: open(minorText) ? undefined : toNumber(minorText!),
    patch: open(patchText) ? undefined : toNumber(patchText!),
    pre: pre?.split(".") ?? [],
  };
}

/**
 * A pre-release only satisfies a requirement that names a pre-release of the same three numbers, so
 * that `>=0.6.0` never admits a candidate.
 */
export function satisfies(version: Semver, requirement: SemverRequirement): boolean {
  if (!requirement.every((comparator) => holds(version, comparator))) return false;
  if (version.pre.length === 0) return true;
  return requirement.some(({ major, minor, patch, pre }) =>
    pre.length > 0 && major === version.major && minor === version.minor && patch === version.patch
  );
}

function holds(version: Semver, comparator: Comparator): boolean {
  switch (comparator.operator) {
    case "=":
      return compare(version, comparator) === 0;
    case ">":
      return compare(version, comparator) > 0;
    case ">=":
      return compare(version, comparator) >= 0;
    case "<":
      return compare(version, comparator) < 0;
    case "<=":
      return compare(version, comparator) <= 0;
    case "~":
      return compare(version, comparator) >= 0 && version.major === comparator.major &&
        (comparator.minor === undefined || version.minor === comparator.minor);
    case "^":
      return compare(version, comparator) >= 0 && isCaretCompatible(version, comparator);
  }
}

/** The leftmost number that is not zero may not change. */
function isCaretCompatible(version: Semver, { major, minor, patch }: Comparator): boolean {
  if (version.major !== major) return false;
  if (major > 0 || minor === undefined) return true;
  if (version.minor !== minor) return false;
  return minor > 0 || patch === undefined || version.patch === patch;
}

/** Numbers the comparator leaves open are equal, so that `>1.2` starts at 1.3.0 and `<=1.2` ends there. */
function compare(version: Semver, comparator: Comparator): number {
  if (version.major !== comparator.major) return version.major - comparator.major;
  if (comparator.minor === undefined) return 0;
  if (version.minor !== comparator.minor) return version.minor - comparator.minor;
  if (comparator.patch === undefined) return 0;
  if (version.patch !== comparator.patch) return version.patch - comparator.patch;
  return comparePre(version.pre, comparator.pre);
}

function comparePre(a: readonly string[], b: readonly string[]): number {
  if (a.length === 0 || b.length === 0) return b.length - a.length; // a release comes last
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const difference = compareIdentifier(a[i]!, b[i]!);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

function compareIdentifier(a: string, b: string): number {
  const [aIsNumber, bIsNumber] = [/^[0-9]+$/.test(a), /^[0-9]+$/.test(b)];
  if (aIsNumber && bIsNumber) return Number(a) - Number(b);
  if (aIsNumber !== bIsNumber) return aIsNumber ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

function toNumber(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number)) throw malformed(`number ${text}`);
  return number;
}

function malformed(what: string): AppError {
  return new AppError("input/malformed", `Cannot parse ${what} as a semantic version`);
}
