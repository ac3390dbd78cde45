import {
  parseTrustAnchor,
  type TrustAnchor,
  VENDOR_TRUST_ANCHORS,
} from "#core/attestation/trust-anchor.ts";
import { AppError } from "#core/errors/app-error.ts";
import { commonNameOf } from "#core/x509/common-name.ts";
import { byId, input } from "./dom.ts";

/** A root of trust somebody loaded; `saysSimulated` when its own subject says so. */
interface LoadedRoot {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly saysSimulated: boolean;
}

let loaded: LoadedRoot | undefined;

/** Takes a root in Intel's place. Nothing is trusted under it before its user ticked its name. */
export function loadRoot(bytes: Uint8Array): void {
  const { certificate, simulated } = parseTrustAnchor("root", bytes);
  const name = commonNameOf(certificate.subject) ?? "the root of this file";
  loaded = { name, bytes, saysSimulated: simulated };
  input("root-other").checked = true;
  byId("root-note").textContent = `“${name}” is trusted instead of the vendors' roots.`;
  byId("simulated-row").hidden = false;
  byId("simulated-text").textContent = simulated
    ? `I accept evidence of the simulated TEE “${name}”. Software plays the TEE there: it proves ` +
      "nothing about any hardware."
    : `“${name}” vouches for a simulated TEE.`;
  input("simulated").checked = !simulated;
}

export function forgetRoot(): void {
  loaded = undefined;
  input("root-intel").checked = true;
  byId("root-note").textContent = "";
  byId("simulated-row").hidden = true;
  input("simulated").checked = false;
}

/** The anchors as the form says. Throws when a simulated root was not accepted by name. */
export function trustAnchors(): readonly TrustAnchor[] {
  if (input("root-intel").checked) return VENDOR_TRUST_ANCHORS;
  if (loaded === undefined) {
    throw new AppError("config/invalid", "Choose the PEM file of the root to trust");
  }
  const { name, bytes, saysSimulated } = loaded;
  const accepted = input("simulated").checked;
  if (saysSimulated && !accepted) {
    throw new AppError(
      "config/invalid",
      `“${name}” is the root of a simulated TEE: tick that you accept it`,
    );
  }
  return [parseTrustAnchor(name, bytes, { simulated: accepted })];
}
