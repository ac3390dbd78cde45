import type { Check, CheckId, Verdict } from "./verdict.ts";

/** One fact in words for somebody who never read docs/verdict.md. */
export interface Statement {
  readonly check: CheckId;
  readonly text: string;
  /** The evidence says otherwise, rather than nothing. */
  readonly failed?: true;
}

export interface VerdictWords {
  /** One sentence: may this be trusted? */
  readonly headline: string;
  /** What holds, given the outcome: everything when accepted, nothing to rely on when refused. */
  readonly proven: readonly Statement[];
  /** What failed, then what nobody could or wanted to check. */
  readonly unproven: readonly Statement[];
  /** What this TEE, or this evidence, has nothing of. */
  readonly notApplicable: readonly Statement[];
}

/** Says in plain words what a verdict proves about whom, and what it leaves open. */
export function wordsOf(verdict: Verdict): VerdictWords {
  const of = (result: Check["result"]) => verdict.checks.filter((check) => check.result === result);
  return {
    headline: headlineOf(verdict),
    proven: of("passed").map(({ id }) => ({ check: id, text: provenText(id, verdict) })),
    unproven: [
      ...of("failed").map(({ id, detail }) => ({
        check: id,
        text: `${detail}.`,
        failed: true as const,
      })),
      ...of("not-checked").map(({ id }) => ({ check: id, text: OPEN[id] })),
      ...of("not-applicable").filter(({ id }) => id === UNBOUND)
        .map(({ id }) => ({ check: id, text: OPEN[id] })),
    ],
    notApplicable: of("not-applicable").filter(({ id }) => id !== UNBOUND)
      .map(({ id, detail }) => ({ check: id, text: `${detail}.` })),
  };
}

/** The one thing a host can leave out so that evidence has nothing to check, and that is worth knowing. */
const UNBOUND: CheckId = "mr-config-id";

/** What each check proves when it passes, whoever asks: docs/verdict.md in short. */
export const CHECK_MEANINGS: Readonly<Record<CheckId, string>> = {
  "evidence-format": "the evidence is a well-formed quote of a known version",
  "collateral-validity": "what the vendor says about the platform is there, signed, and current",
  "signature-chain": "hardware under a named trust anchor signed the evidence",
  "revocation": "no certificate is on its issuer's revocation list",
  "evidence-freshness": "the evidence was made a short while ago",
  "platform-match": "what the vendor certified is about this platform",
  "tcb-status": "the platform's patch level is one the policy allows",
  "tcb-advisories": "no advisory is open that the policy does not allow",
  "debug-disabled": "the host cannot read the TEE's memory with a debugger",
  "tee-attributes": "no other attribute weakens the TEE",
  "tpm-quote": "the machine's TPM quoted its registers together with this evidence",
  "report-data": "the evidence was made for this challenge, or for this key",
  "event-log-replay": "the event log is the one the registers were extended with",
  "launch-events": "each event that names the app occurs once and in its place",
  "gpu-attestation": "the guest attested its GPUs, in confidential computing mode",
  "os-image": "firmware, kernel, command line and initrd are those of the image named",
  "acpi-tables": "the ACPI tables handed to the guest are those QEMU makes for this VM",
  "mr-config-id": "the host launched the TEE for the configuration the guest measured",
  "compose-hash": "the app is the expected one, to the byte",
  "app-id": "the app id is the expected one",
  "instance-id": "the instance is the expected one",
  "key-provider": "the app's keys come from the expected provider",
  "policy": "every check the policy requires has passed",
};

/** `Intel TDX`, `AMD SEV-SNP`: what a person calls the TEE. */
export function teeName({ tee }: Verdict): string {
  return TEE_NAMES[tee];
}

const TEE_NAMES: Readonly<Record<Verdict["tee"], string>> = {
  "intel-tdx": "Intel TDX",
  "intel-sgx": "Intel SGX",
  "dstack-tdx": "Intel TDX",
  "dstack-gcp-tdx": "Intel TDX (Google Cloud)",
  "dstack-amd-sev-snp": "AMD SEV-SNP",
  "dstack-nitro-enclave": "AWS Nitro Enclaves",
  "dstack-aws-nitro-tpm": "AWS NitroTPM",
};

function headlineOf(verdict: Verdict): string {
  const { outcome, reason, simulated, identity, checks } = verdict;
  const tee = teeName(verdict);
  if (outcome === "refused") return `Do not trust this: ${lowerFirst(reason!.detail)}.`;
  if (simulated) {
    return "The evidence fits, but software played the TEE: nothing is proven about any hardware.";
  }
  if (identity === null) {
    return `Genuine ${tee} hardware signed this quote. By itself it says nothing about an app.`;
  }
  const expected = checks.some(({ id, result }) => id === "compose-hash" && result === "passed");
  return expected
    ? `This is the app you expect, in a confidential VM on genuine ${tee} hardware.`
    : `Genuine ${tee} hardware runs the app below in a confidential VM. ` +
      "Whether it is the app you mean is for you to compare.";
}

function provenText(id: CheckId, verdict: Verdict): string {
  const { simulated, trustAnchor, tcb } = verdict;
  switch (id) {
    case "evidence-format":
      return "The evidence is well formed.";
    case "collateral-validity":
      return "What the vendor says about the platform is signed and current.";
    case "signature-chain":
      return simulated
        ? `The evidence is signed under the simulated root “${trustAnchor?.name}”: by software.`
        : `Genuine hardware signed the evidence, under “${trustAnchor?.name}”.`;
    case "revocation":
      return "No certificate on the way there has been revoked.";
    case "evidence-freshness":
      return "The evidence was made a short while ago.";
    case "platform-match":
      return tcb && "fmspc" in tcb
        ? `The vendor's data is for this very model of platform (FMSPC ${tcb.fmspc}).`
        : "The vendor's certificate is for this very platform.";
    case "tcb-status":
      return `The platform's patch level is one you allow: ${tcb?.status}.`;
    case "tcb-advisories":
      return "No security advisory is open that you did not allow.";
    case "debug-disabled":
      return "The host cannot look into the TEE with a debugger.";
    case "tee-attributes":
      return "No other attribute weakens the TEE.";
    case "tpm-quote":
      return "The machine's TPM vouches for firmware and kernel, together with this evidence.";
    case "report-data":
      return "The evidence was made for your challenge: it is no recording.";
    case "event-log-replay":
      return "The log of what was started is the one in the registers, nothing added or left out.";
    case "launch-events":
      return "The log names the app once, before the app could say anything itself.";
    case "gpu-attestation":
      return "Its GPUs are genuine and in confidential computing mode: the guest checked them.";
    case "os-image":
      return "Firmware, kernel, command line and root disk are those of the OS image named.";
    case "acpi-tables":
      return "The ACPI tables the host handed over are the ones QEMU makes for this VM.";
    case "mr-config-id":
      return "The host was bound to this very configuration when it launched the VM.";
    case "compose-hash":
      return "It runs the compose file you expect, to the byte.";
    case "app-id":
      return "It has the app id you expect.";
    case "instance-id":
      return "It is the instance you expect.";
    case "key-provider":
      return "It has its keys from the provider you expect.";
    case "policy":
      return "Everything you require was proven.";
  }
}

/** What stays open when a check did not run. */
const OPEN: Readonly<Record<CheckId, string>> = {
  "evidence-format": "Whether the evidence is a quote at all.",
  "collateral-validity": "What the vendor says about the platform.",
  "signature-chain": "Who signed the quote: it could be made up.",
  "revocation": "Whether a certificate on the way to the root has been revoked.",
  "evidence-freshness": "When the evidence was made.",
  "platform-match": "Whether the vendor's data is for this platform.",
  "tcb-status": "Whether the platform is patched.",
  "tcb-advisories": "Which security advisories are open.",
  "debug-disabled": "Whether the host can look in with a debugger.",
  "tee-attributes": "Whether an attribute weakens the TEE.",
  "tpm-quote": "What the machine's TPM says about firmware and kernel.",
  "report-data":
    "That the evidence is fresh. It may be a recording: challenge the app, or name what the " +
    "evidence must bind.",
  "event-log-replay": "What was started: there is no log, or it could not be compared.",
  "launch-events": "Which app this is.",
  "gpu-attestation": "Whether its GPUs are genuine: the guest attested none.",
  "os-image": "Which operating system runs: nobody could compute what this image must measure to.",
  "acpi-tables":
    "What is in the ACPI tables the host handed over: code in them runs in the guest's kernel.",
  "mr-config-id": "That the host was bound to a configuration when it launched the VM.",
  "compose-hash":
    "That this is the compose file you mean. Compare the hash, or name the one you expect.",
  "app-id": "That this is the app id you mean.",
  "instance-id": "Which of the app's instances you mean.",
  "key-provider":
    "That its keys come from a KMS you trust: whoever gave the keys can read the data.",
  "policy": "That everything you require was proven.",
};

function lowerFirst(text: string): string {
  // MRTD, RTMR0 and the like keep their letters.
  return /^[A-Z][a-z]/.test(text) ? text[0]!.toLowerCase() + text.slice(1) : text;
}
