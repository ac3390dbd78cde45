import {
  type Aml,
  and,
  arg,
  call,
  declare,
  device,
  dwordField,
  eisaId,
  equal,
  giveBack,
  integer,
  list,
  method,
  name,
  or,
  otherwise,
  scope,
  store,
  when,
  ZERO,
} from "./aml.ts";
import type { AcpiDialect } from "./machine.ts";
import { interrupt, resources } from "./resource.ts";

const PINS = [0, 1, 2, 3] as const;
const LINKS = [..."ABCDEFGH"];

/** Which link or GSI each pin of each slot of the root bus reaches, and the link devices. */
export function interruptRouting(dialect: AcpiDialect): Aml[] {
  const trigger = dialect.interrupts;
  return [
    declare("PICF", ZERO), // 0 in PIC mode, 1 in APIC mode
    method("_PIC", 1, "notSerialized", store(arg(0), name("PICF"))),
    scope(
      "_SB",
      scope(
        "PCI0",
        declare("PRTP", rootRoutes("LNK")),
        declare("PRTA", rootRoutes("GSI")),
        method(
          "_PRT",
          0,
          "notSerialized",
          when(equal(name("PICF"), ZERO), giveBack(name("PRTP"))),
          otherwise(giveBack(name("PRTA"))),
        ),
      ),
      linkStatus(),
      linkSettings(trigger),
      ...LINKS.map((letter, i) => linkDevice(letter, i, trigger)),
      ...LINKS.map((letter, i) => gsiDevice(letter, 0x10 + i, trigger)),
    ),
  ];
}

/** ICH9: slots to 24 and 30 rotate over links E to H, the others over A to D from their own pin A. */
function rootRoutes(kind: "LNK" | "GSI"): Aml {
  const routes: Aml[] = [];
  for (let slot = 0; slot < 32; slot++) {
    const first = slot < 24 ? slot % 4 : 0;
    const group = slot <= 24 || slot === 30 ? 4 : 0;
    for (const pin of PINS) {
      routes.push(route(slot, pin, `${kind}${LINKS[group + (first + pin) % 4]}`));
    }
  }
  return list(routes);
}

/** A bus of an expander bridge: slots and pins rotate over links A to D, a step ahead. */
export function expanderRoutes(): Aml {
  const routes: Aml[] = [];
  for (let slot = 0; slot < 32; slot++) {
    for (const pin of PINS) routes.push(route(slot, pin, `LNK${"DABC"[(slot + pin) % 4]}`));
  }
  return method("_PRT", 0, "notSerialized", giveBack(list(routes)));
}

function route(slot: number, pin: number, source: string): Aml {
  return list([integer(slot * 0x1_0000 + 0xffff), integer(pin), name(source), ZERO]);
}

function linkStatus(): Aml {
  return method(
    "IQST",
    1,
    "notSerialized",
    when(and(integer(0x80), arg(0)), giveBack(integer(0x09))), // disabled
    giveBack(integer(0x0b)),
  );
}

function linkSettings(trigger: "edge" | "level"): Aml {
  return method(
    "IQCR",
    1,
    "serialized",
    declare("PRR0", resources(interrupt(trigger, [0]))),
    dwordField(name("PRR0"), integer(5), "PRRI"),
    store(and(arg(0), integer(0x0f)), name("PRRI")),
    giveBack(name("PRR0")),
  );
}

function linkDevice(letter: string, uid: number, trigger: "edge" | "level"): Aml {
  const register = name(`PRQ${letter}`);
  return device(
    `LNK${letter}`,
    declare("_HID", eisaId("PNP0C0F")),
    declare("_UID", integer(uid)),
    declare("_PRS", resources(interrupt(trigger, [5, 10, 11]))),
    method("_STA", 0, "notSerialized", giveBack(call("IQST", register))),
    method("_DIS", 0, "notSerialized", or(register, integer(0x80), register)),
    method("_CRS", 0, "notSerialized", giveBack(call("IQCR", register))),
    method(
      "_SRS",
      1,
      "notSerialized",
      dwordField(arg(0), integer(5), "PRRI"),
      store(name("PRRI"), register),
    ),
  );
}

/** A link wired to one interrupt, which cannot be switched off. */
function gsiDevice(letter: string, gsi: number, trigger: "edge" | "level"): Aml {
  const wired = resources(interrupt(trigger, [gsi]));
  return device(
    `GSI${letter}`,
    declare("_HID", eisaId("PNP0C0F")),
    declare("_UID", integer(gsi)),
    declare("_PRS", wired),
    declare("_CRS", wired),
    method("_DIS", 0, "notSerialized"),
    method("_SRS", 1, "notSerialized"),
  );
}
