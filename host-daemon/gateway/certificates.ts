import { AppError } from "#core/errors/app-error.ts";
import type { DataPlanePaths } from "./haproxy-config.ts";
import { refusal, type RuntimeSocket } from "./runtime-socket.ts";

export interface CertificateFacts {
  /** Unix seconds. */
  readonly notAfter: number;
  /** Names of the subject alternative name extension, lower case. */
  readonly dnsNames: readonly string[];
  readonly keyMatches: boolean;
  /** SHA-256 of the leaf, lower-case hex. */
  readonly fingerprint: string;
}

export interface CertificatePorts {
  /** Reads the leaf of a PEM chain and compares it with a PEM private key. Throws for neither. */
  readonly inspect: (chainPem: string, keyPem: string) => CertificateFacts;
  /** Atomic, mode 0600. */
  readonly writeText: (path: string, text: string) => Promise<void>;
  readonly now: () => Date;
}

/**
 * The wildcard certificates HAProxy serves: one file and one line of its list a base domain. A
 * certificate that does not fit is refused before anything changes, so the one in force stays.
 */
export class Certificates {
  readonly #paths: DataPlanePaths;
  readonly #ports: CertificatePorts;
  readonly #domains = new Map<string, CertificateFacts>();

  constructor(paths: DataPlanePaths, ports: CertificatePorts) {
    this.#paths = paths;
    this.#ports = ports;
  }

  /** Base domains with a certificate in force. */
  get domains(): ReadonlyMap<string, CertificateFacts> {
    return this.#domains;
  }

  /** Writes chain and key for `*.<domain>` to disk, where HAProxy reads them at its next start. */
  async store(domain: string, chainPem: string, keyPem: string): Promise<CertificateFacts> {
    const facts = this.#ports.inspect(chainPem, keyPem);
    checkCertificate(domain, facts, this.#ports.now());
    await this.#ports.writeText(this.#file(domain), pemBundle(chainPem, keyPem));
    this.#domains.set(domain, facts);
    await this.writeList();
    return facts;
  }

  async writeList(): Promise<void> {
    const lines = [...this.#domains.keys()].sort().map((domain) => this.#line(domain));
    await this.#ports.writeText(this.#paths.certificateList, lines.map((l) => `${l}\n`).join(""));
  }

  /** Has a running HAProxy serve the stored certificate from the next handshake on. */
  async publish(
    domain: string,
    chainPem: string,
    keyPem: string,
    runtime: RuntimeSocket,
  ): Promise<void> {
    const file = this.#file(domain);
    const known = await runtime.query("show ssl cert");
    const isNew = !known.split("\n").includes(file);
    if (isNew) await expect(runtime.query(`new ssl cert ${file}`), /New empty certificate/);
    await expect(
      runtime.upload(`set ssl cert ${file}`, pemBundle(chainPem, keyPem)),
      /Transaction created|Transaction updated/,
    );
    await expect(runtime.query(`commit ssl cert ${file}`), /Success!/);
    if (isNew) {
      const added = runtime.upload(
        `add ssl crt-list ${this.#paths.certificateList}`,
        this.#line(domain),
      );
      await expect(added, /Success!/);
    }
  }

  #file(domain: string): string {
    return `${this.#paths.certificates}/${domain}.pem`;
  }

  #line(domain: string): string {
    return `${this.#file(domain)} *.${domain}`;
  }
}

/** Throws `config/invalid` unless the certificate can serve `*.<domain>` now. */
export function checkCertificate(domain: string, facts: CertificateFacts, now: Date): void {
  const wildcard = `*.${domain}`;
  if (!facts.keyMatches) throw unusable(wildcard, "its private key belongs to another one");
  if (facts.notAfter * 1000 <= now.getTime()) throw unusable(wildcard, "expired");
  if (!facts.dnsNames.includes(wildcard)) throw unusable(wildcard, "it is for other names");
}

/** HAProxy reads chain and key from one file; an empty line would end a payload. */
function pemBundle(chainPem: string, keyPem: string): string {
  const lines = `${chainPem}\n${keyPem}`.split("\n").map((line) => line.trim());
  return lines.filter((line) => line !== "").join("\n") + "\n";
}

async function expect(answer: Promise<string>, success: RegExp): Promise<void> {
  const text = await answer;
  if (!success.test(text)) throw refusal(text.trim());
}

function unusable(name: string, why: string): AppError {
  return new AppError("config/invalid", `Certificate for ${name} cannot be used: ${why}`);
}
