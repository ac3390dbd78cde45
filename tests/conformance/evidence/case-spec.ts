import { toHex } from "#core/bytes/bytes.ts";
import type { CaseRequest, ConformanceCase, Expectation } from "./case.ts";
import {
  build,
  goodScene,
  type Material,
  NOW,
  rfc3339,
  type Scene,
  type SceneKind,
} from "./scene.ts";

/** A case in the making: what is changed in a good scene, and what must come of it. */
export interface CaseSpec {
  readonly title: string;
  readonly kind?: ConformanceCase["kind"];
  readonly change?: (scene: Scene) => void;
  /** Changes what was built and signed. */
  readonly patch?: (material: Material) => void;
  /** Members of the request besides quote, collateral and time; null leaves one out. */
  readonly request?: { readonly [name: string]: unknown };
  /** Unix seconds. */
  readonly now?: number;
  readonly expect: Expectation;
}

type Options = Omit<CaseSpec, "title" | "change" | "expect">;

export function accepted(
  title: string,
  change: (scene: Scene) => void,
  { status = "UpToDate", ...options }: Options & { readonly status?: string } = {},
): CaseSpec {
  return { title, change, ...options, expect: { outcome: "accepted", status } };
}

export function refused(
  reason: string,
  title: string,
  change: (scene: Scene) => void,
  options: Options = {},
): CaseSpec {
  return { title, change, ...options, expect: { outcome: "refused", reason } };
}

/** Refused for what was done to the finished bytes. */
export function spoiled(
  reason: string,
  title: string,
  patch: (material: Material) => void,
): CaseSpec {
  return { title, patch, expect: { outcome: "refused", reason } };
}

/** `require: []` asks for the hardware alone. */
export const QUOTE_ALONE = { require: [] };

export function caseOf(kind: SceneKind, group: string, spec: CaseSpec): ConformanceCase {
  const scene = goodScene(kind);
  spec.change?.(scene);
  const material = build(scene);
  spec.patch?.(material);
  const members = {
    quote: toHex(material.quote),
    collateral: material.collateral,
    time: rfc3339(spec.now ?? NOW),
    policy: QUOTE_ALONE,
    ...spec.request,
  };
  const request = Object.fromEntries(
    Object.entries(members).filter(([, value]) => value !== null),
  ) as unknown as CaseRequest;
  const slug = spec.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "");
  return {
    id: `${kind}/${group}/${slug}`,
    title: spec.title,
    kind: spec.kind ?? "quote",
    root: material.root,
    request,
    expect: spec.expect,
  };
}

export function flipHex(hex: string, byte = 0, bit = 0): string {
  const at = byte * 2;
  const value = parseInt(hex.slice(at, at + 2), 16) ^ (1 << bit);
  return hex.slice(0, at) + value.toString(16).padStart(2, "0") + hex.slice(at + 2);
}
