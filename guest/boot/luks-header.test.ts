import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { AppError } from "#core/errors/app-error.ts";
import { COPY_BYTES, goodJson, header, type HeaderJson } from "./luks-header.fixture.ts";
import { LUKS_PAYLOAD_OFFSET, luksPresence, validateLuksHeader } from "./luks-header.ts";

const CRYPTSETUP = ["/usr/sbin/cryptsetup", "/sbin/cryptsetup"].find((path) => {
  try {
    readFileSync(path);
    return true;
  } catch {
    return false;
  }
});

/** A header as cryptsetup makes it, or undefined where it is not installed. */
function cryptsetupHeader(options: readonly string[]): Uint8Array {
  const dir = mkdtempSync(join(tmpdir(), "luks-"));
  try {
    const [disk, header] = [join(dir, "disk"), join(dir, "header")];
    writeFileSync(disk, "");
    execFileSync("truncate", ["-s", "64M", disk]);
    // deno-fmt-ignore
    execFileSync(CRYPTSETUP!, [
      "luksFormat", "--batch-mode", "--type", "luks2", "--header", header, "--offset", "32768",
      "--pbkdf-force-iterations", "1000", "--key-file", "-", ...options, disk,
    ], { input: "key" });
    return new Uint8Array(readFileSync(header));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

// deno-fmt-ignore
const OURS = ["--cipher", "aes-xts-plain64", "--key-size", "512", "--hash", "sha256", "--pbkdf", "pbkdf2", "--sector-size", "512"];

test("accepts what cryptsetup makes with our parameters", { skip: skipReason() }, () => {
  const header = cryptsetupHeader(OURS);
  assert.equal(luksPresence(header), "present");
  validateLuksHeader(header);
});

test("refuses what cryptsetup makes with other parameters", { skip: skipReason() }, () => {
  const others: [string[], RegExp][] = [
    [[
      ...OURS,
      "--pbkdf",
      "argon2id",
      "--pbkdf-memory",
      "32",
      "--pbkdf-force-iterations",
      "4",
      "--pbkdf-parallel",
      "1",
    ], /kdf/],
    [[...OURS, "--label", "evil"], /label/],
    [[...OURS, "--subsystem", "evil"], /subsystem/],
    [[...OURS, "--sector-size", "4096"], /sector size/],
  ];
  for (const [options, expected] of others) {
    assert.throws(() => validateLuksHeader(cryptsetupHeader(options)), expected, options.join(" "));
  }
});

function skipReason(): string | false {
  return CRYPTSETUP === undefined && "skipped: cryptsetup is not installed";
}

/** Applies `attack` to a good document, in the copies named. */
function attacked(
  attack: (json: HeaderJson) => void,
  copies: "both" | "second" = "both",
): Uint8Array {
  const evil = goodJson();
  attack(evil);
  return copies === "both" ? header(evil) : header(goodJson(), evil);
}

function refuses(bytes: Uint8Array, message: RegExp): void {
  assert.throws(() => validateLuksHeader(bytes), (error) => {
    assert.ok(error instanceof AppError);
    assert.equal(error.code, "guest/disk-header");
    assert.match(error.message, message);
    return true;
  });
}

test("the crafted header is good before it is attacked, and says how much of it is used", () => {
  assert.equal(validateLuksHeader(header(goodJson())), 32768 + 258048);
});

const slot = (json: HeaderJson): HeaderJson => json["keyslots"]["0"];
const segment = (json: HeaderJson): HeaderJson => json["segments"]["0"];

const ATTACKS: [string, (json: HeaderJson) => void, RegExp][] = [
  [
    "cipher_null in the segment",
    (j) => segment(j)["encryption"] = "cipher_null-ecb",
    /Invalid LUKS segment encryption/,
  ],
  [
    "cipher_null in the keyslot",
    (j) => slot(j)["area"].encryption = "cipher_null-ecb",
    /Invalid LUKS keyslot encryption/,
  ],
  ["a second keyslot", (j) => j["keyslots"]["1"] = slot(j), /keyslots/],
  ["a keyslot under another key", (j) => j["keyslots"] = { "1": slot(j) }, /keyslots/],
  ["a token", (j) => j["tokens"]["0"] = { type: "luks2-keyring", keyslots: ["0"] }, /tokens/],
  ["a second segment", (j) => j["segments"]["1"] = segment(j), /segments/],
  ["a second digest", (j) => j["digests"]["1"] = j["digests"]["0"], /digests/],
  [
    "key material inside the header",
    (j) => slot(j)["area"].offset = "16384",
    /Invalid LUKS keyslot area/,
  ],
  [
    "key material moved by leading zeros",
    (j) => slot(j)["area"].offset = "00768",
    /Invalid LUKS keyslot area/,
  ],
  ["key material in the payload", (j) => slot(j)["area"].offset = "16777216", /keyslot area/],
  [
    "an area whose end wraps around",
    (j) => slot(j)["area"].size = "18446744073709518848",
    /keyslot area/,
  ],
  ["an area larger than 64 bits", (j) => slot(j)["area"].size = "18446744073709551616", /64 bits/],
  ["a moved segment", (j) => segment(j)["offset"] = "0", /segment offset/],
  ["a resized segment", (j) => segment(j)["size"] = "1048576", /segment size/],
  ["another IV", (j) => segment(j)["iv_tweak"] = "1", /iv_tweak/],
  ["another sector size", (j) => segment(j)["sector_size"] = 4096, /sector size/],
  ["a segment with flags", (j) => segment(j)["flags"] = ["backup-final"], /segment flags/],
  ["a segment with integrity", (j) => segment(j)["integrity"] = { type: "none" }, /integrity/],
  ["config flags", (j) => j["config"].flags = ["allow-discards"], /config flags/],
  [
    "reencryption",
    (j) => j["config"].requirements = { mandatory: ["online-reencrypt-v2"] },
    /requirements/,
  ],
  [
    "argon2",
    (j) => slot(j)["kdf"] = { type: "argon2id", time: 4, memory: 4194304, cpus: 4, salt: "AA==" },
    /kdf/,
  ],
  ["a weak kdf hash", (j) => slot(j)["kdf"].hash = "sha1", /kdf hash/],
  ["a weak anti-forensic hash", (j) => slot(j)["af"].hash = "sha1", /af hash/],
  ["fewer stripes", (j) => slot(j)["af"].stripes = 1, /stripes/],
  ["a shorter key", (j) => slot(j)["key_size"] = 32, /key size/],
  ["a keyslot priority", (j) => slot(j)["priority"] = 2, /priority/],
  ["a digest of another keyslot", (j) => j["digests"]["0"].keyslots = ["1"], /digest keyslots/],
  ["a digest of no segment", (j) => j["digests"]["0"].segments = [], /digest segments/],
];

for (const [name, attack, message] of ATTACKS) {
  test(`refuses ${name}`, () => {
    refuses(attacked(attack), message);
    refuses(attacked(attack, "second"), message);
  });
}

test("refuses a repeated member that a lenient parser would read twice", () => {
  const twice = JSON.stringify(goodJson()).replace('"tokens":{}', '"tokens":{"0":{}},"tokens":{}');
  refuses(header(twice), /header/);
});

test("refuses a changed binary header", () => {
  const changes: [number, number, RegExp][] = [
    [0x000, 0x00, /magic/],
    [0x007, 0x01, /version/],
    [0x018, 0x41, /label/],
    [0x04e, 0x31, /checksum algorithm/],
    [0x0d0, 0x41, /subsystem/],
    [0x107, 0x01, /header offset/],
    [COPY_BYTES, 0x00, /magic/],
    [COPY_BYTES + 0x106, 0x80, /header offset/],
  ];
  for (const [at, value, message] of changes) {
    const bytes = header(goodJson());
    bytes[at] = value;
    refuses(bytes, message);
  }
});

test("refuses header sizes that leave the copy, and truncated copies", () => {
  for (const size of [0n, 4095n, 16777217n, 1n << 63n]) {
    const bytes = header(goodJson());
    new DataView(bytes.buffer).setBigUint64(8, size);
    refuses(bytes, /header size/);
  }
  for (const length of [0, 5, 4096, COPY_BYTES, COPY_BYTES + 4096]) {
    refuses(header(goodJson()).slice(0, length), /LUKS/);
  }
});

test("tells an empty disk from one whose primary header is gone", () => {
  const bytes = header(goodJson());
  assert.equal(luksPresence(new Uint8Array(LUKS_PAYLOAD_OFFSET)), "absent");
  assert.equal(luksPresence(new Uint8Array(0)), "absent");
  assert.equal(luksPresence(bytes), "present");
  bytes.fill(0, 0, 512);
  assert.equal(luksPresence(bytes), "damaged");
});
