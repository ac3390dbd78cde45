import { JsonObject } from "../encoding/json-object.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { readLevels, readSeconds, readTcbVerdict } from "./signed-json.ts";
import type { TcbVerdict } from "./tcb-status.ts";

const COMPONENTS = 16;
const MAX_MODULES = 64;

/** Which TDX module this is about, and what its report must say. */
export interface TdxModule {
  readonly mrSigner: Uint8Array;
  readonly attributes: Uint8Array;
  readonly attributesMask: Uint8Array;
}

export interface TdxModuleIdentity extends TdxModule {
  /** `TDX_` and the module's major version as two hex digits. */
  readonly id: string;
  readonly levels: readonly (TcbVerdict & { readonly isvSvn: number })[];
}

export interface TcbLevel extends TcbVerdict {
  /** 16 SVNs, compared with CPUSVN. */
  readonly sgxComponents: readonly number[];
  readonly pceSvn: number;
  /** 16 SVNs, compared with TEE_TCB_SVN; empty for SGX. */
  readonly tdxComponents: readonly number[];
}

/** Intel's assessment of one platform model (PCS API v4, TCB info version 3). */
export interface TcbInfo {
  readonly id: "SGX" | "TDX";
  /** Unix seconds. */
  readonly issueDate: number;
  readonly nextUpdate: number;
  readonly fmspc: Uint8Array;
  readonly pceId: Uint8Array;
  readonly evaluationDataNumber: number;
  readonly tdxModule: TdxModule | undefined;
  readonly tdxModuleIdentities: readonly TdxModuleIdentity[];
  /** Best level first: SGX components, then PCESVN, then TDX components decide. */
  readonly levels: readonly TcbLevel[];
}

/** Parses the signed text of a TCB info. Throws `input/malformed`. */
export function parseTcbInfo(text: string): TcbInfo {
  const json = new JsonObject(parseStrictJson(text, "TCB info"), "TCB info");
  const id = json.oneOf("id", ["SGX", "TDX"]);
  if (json.unsigned("version", 255) !== 3) throw json.malformed("version", "is not 3");
  if (json.unsigned("tcbType", 255) !== 0) throw json.malformed("tcbType", "is not 0");
  const levels = readLevels(json, "TCB level", (level, tcb): TcbLevel => ({
    ...readTcbVerdict(level),
    sgxComponents: readComponents(tcb, "sgxtcbcomponents"),
    pceSvn: tcb.unsigned("pcesvn", 0xffff),
    tdxComponents: id === "TDX" ? readComponents(tcb, "tdxtcbcomponents") : [],
  }));
  return {
    id,
    issueDate: readSeconds(json, "issueDate"),
    nextUpdate: readSeconds(json, "nextUpdate"),
    fmspc: json.hex("fmspc", 6),
    pceId: json.hex("pceId", 2),
    evaluationDataNumber: json.unsigned("tcbEvaluationDataNumber", 0xffffffff),
    tdxModule: json.has("tdxModule")
      ? readModule(new JsonObject(json.raw("tdxModule"), "tdxModule"))
      : undefined,
    tdxModuleIdentities: json.has("tdxModuleIdentities") ? readModuleIdentities(json) : [],
    levels: levels.sort(bestFirst),
  };
}

function readComponents(tcb: JsonObject, name: string): number[] {
  const components = tcb.array(name);
  if (components.length !== COMPONENTS) {
    throw tcb.malformed(name, `has ${components.length} items, expected ${COMPONENTS}`);
  }
  return components.map((value) => new JsonObject(value, name).unsigned("svn", 255));
}

function readModule(json: JsonObject): TdxModule {
  return {
    mrSigner: json.hex("mrsigner", 48),
    attributes: json.hex("attributes", 8),
    attributesMask: json.hex("attributesMask", 8),
  };
}

function readModuleIdentities(json: JsonObject): TdxModuleIdentity[] {
  const list = json.array("tdxModuleIdentities");
  if (list.length > MAX_MODULES) throw json.malformed("tdxModuleIdentities", "are too many");
  return list.map((value) => {
    const identity = new JsonObject(value, "tdxModuleIdentity");
    return {
      id: identity.string("id"),
      ...readModule(identity),
      levels: readLevels(identity, "TDX module level", (level, tcb) => ({
        ...readTcbVerdict(level),
        isvSvn: tcb.unsigned("isvsvn", 255),
      })),
    };
  });
}

function bestFirst(a: TcbLevel, b: TcbLevel): number {
  return compare(b.sgxComponents, a.sgxComponents) || b.pceSvn - a.pceSvn ||
    compare(b.tdxComponents, a.tdxComponents);
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (const [i, svn] of a.entries()) {
    if (svn !== b[i]) return svn - b[i]!;
  }
  return 0;
}
