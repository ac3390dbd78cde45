import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "#core/bytes/bytes.ts";
import { MeasuredImage } from "#core/measurement/measure-image.ts";
import { parseVmConfig } from "#core/measurement/vm-config.ts";
import { encodeSnpMeasurementDocument } from "#core/sev-snp/measurement-document.ts";
import { IMAGE_FILES, imageFolderFiles, imageHashOf } from "../tests/fixtures/image-folder.ts";
import { terminal } from "./terminal.fixture.ts";

const GIB = 2 ** 30;

/** A terminal with the image in `img`, and perhaps more files. */
async function terminalWithImage(more: Record<string, string | Uint8Array> = {}) {
  const image = await imageFolderFiles();
  const files = Object.fromEntries([...image].map(([name, bytes]) => [`img/${name}`, bytes]));
  return terminal({ files: { ...files, ...more } });
}

async function expected(config: Record<string, unknown>) {
  const { mrTd, rtmrs } = await new MeasuredImage(IMAGE_FILES).measureVm(
    parseVmConfig(JSON.stringify(config)),
  );
  const [rtmr0, rtmr1, rtmr2] = rtmrs.map(toHex);
  return { mrtd: toHex(mrTd), rtmr0, rtmr1, rtmr2 };
}

const SHAPE = "--cpu 4 --memory 1G --qemu 10.1.0 --gpus 2 --nvswitches 1 --nics 2 --volumes 1"
  .split(
    " ",
  );
const SHAPE_CONFIG = {
  qemu_version: "10.1.0",
  cpu_count: 4,
  memory_size: GIB,
  num_gpus: 2,
  num_nvswitches: 1,
  num_nics: 2,
  num_verity_volumes: 1,
  hotplug_off: true,
  pci_hole64_size: 16 * 1024 * GIB,
};

test("measure prints the registers and the shape they are of", async () => {
  const { dstack } = await terminalWithImage();
  const hole = ["--hotplug-off", "--pci-hole64-size", "16T"];
  const { code, stdout, stderr } = await dstack(
    ...["measure", "--image", "img/"],
    ...SHAPE,
    ...hole,
    "--json",
  );
  assert.deepEqual([code, stderr], [0, ""]);
  const { events, vm_config, ...printed } = JSON.parse(stdout);
  assert.deepEqual(printed, {
    ...await expected(SHAPE_CONFIG),
    os_image_hash: toHex(imageHashOf(await imageFolderFiles())),
    variant: "legacy",
  });
  assert.deepEqual({ ...vm_config, ...SHAPE_CONFIG }, vm_config);
  assert.equal(events.filter((one: { register: string }) => one.register === "rtmr0").length, 13);
});

test("every variant yields the same registers where each is possible", async () => {
  const { dstack } = await terminalWithImage();
  const registers = async (variant: string) => {
    const { stdout } = await dstack("measure", "--image", "img", "--variant", variant, "--json");
    const { mrtd, rtmr0, rtmr1, rtmr2, variant: used } = JSON.parse(stdout);
    return { used, registers: { mrtd, rtmr0, rtmr1, rtmr2 } };
  };
  const of = await expected({ cpu_count: 1, memory_size: 2 * GIB });
  for (const variant of ["legacy", "lite"]) {
    assert.deepEqual(await registers(variant), { used: variant, registers: of });
  }
  assert.equal((await registers("auto")).used, "lite");
});

test("a shape can come from a vm_config file, and be changed", async () => {
  const { dstack } = await terminalWithImage({ "vm.json": JSON.stringify(SHAPE_CONFIG) });
  const measure = async (...more: string[]) =>
    JSON.parse((await dstack("measure", "--image", "img", ...more, "--json")).stdout);
  const same = await measure("--vm-config", "vm.json");
  assert.equal(same.rtmr0, (await expected(SHAPE_CONFIG)).rtmr0);
  const changed = await measure("--vm-config", "vm.json", "--cpu", "8");
  assert.equal(changed.rtmr0, (await expected({ ...SHAPE_CONFIG, cpu_count: 8 })).rtmr0);
});

test("people read names and values", async () => {
  const { dstack } = await terminalWithImage();
  const { stdout } = await dstack("measure", "--image", "img");
  const { mrtd, rtmr2 } = await expected({ cpu_count: 1, memory_size: 2 * GIB });
  assert.match(stdout, new RegExp(`^MRTD +${mrtd}$`, "m"));
  assert.match(stdout, new RegExp(`^RTMR2 +${rtmr2}$`, "m"));
  assert.match(stdout, /^QEMU +9\.1\.0$/m);
});

test("what cannot be measured is said, with an exit status", async () => {
  const image = await terminalWithImage({ "img/bzImage": "another" });
  const { dstack } = await terminalWithImage();
  const cases: [Promise<{ code: number; stderr: string }>, number, RegExp][] = [
    [dstack("measure"), 2, /--image is missing/],
    [dstack("measure", "--image", "nowhere"), 1, /sha256sum\.txt is missing/],
    [image.dstack("measure", "--image", "img"), 1, /bzImage has SHA-256 .*image-mismatch/],
    [dstack("measure", "--image", "img", "--image-hash", "00".repeat(32)), 1, /expected 0000/],
    [dstack("measure", "--image", "img", "--swtpm"), 1, /software TPM/],
    [
      dstack("measure", "--image", "img", "--variant", "lite", "--memory", "1G"),
      1,
      /exactly 2 GiB/,
    ],
    [dstack("measure", "--image", "img", "--cpu", "two"), 2, /--cpu takes a whole number/],
    [dstack("measure", "--image", "img", "--qemu", "7.2.0"), 1, /8\.0\.0 or newer/],
    [dstack("measure", "--image", "img", "--memory", "0"), 2, /--memory takes a size/],
    [dstack("measure", "--image", "img", "--pic", "maybe"), 2, /on, off/],
  ];
  for (const [run, exit, message] of cases) {
    const { code, stderr } = await run;
    assert.match(stderr, message);
    assert.equal(code, exit, stderr);
  }
});

// spec/attestation.md 5.7: the synthetic launch and its digest
test("measure --tee snp prints the launch digest of an image that has a document for it", async () => {
  const document = encodeSnpMeasurementDocument({
    cmdline: `console=ttyS0 dstack.rootfs_hash=${"33".repeat(32)}`,
    ovmfHash: new Uint8Array(48).fill(0x44),
    kernelHash: new Uint8Array(32).fill(0x55),
    initrdHash: new Uint8Array(32).fill(0x66),
    hashesTableGpa: 0x801000,
    resetEip: 0xfffffff0,
    sections: [
      { gpa: 0x100000, size: 0x2000, type: 1 },
      { gpa: 0x800000, size: 0x1000, type: 0x10 },
      { gpa: 0x810000, size: 0x1000, type: 2 },
      { gpa: 0x820000, size: 0x1000, type: 3 },
    ],
  });
  const image = await imageFolderFiles(
    IMAGE_FILES,
    new Map([["measurement.snp.cbor", document]]),
  );
  const { dstack } = terminal({
    files: Object.fromEntries([...image].map(([name, bytes]) => [`snp/${name}`, bytes])),
  });
  const argv = ["measure", "--image", "snp", "--tee", "snp", "--cpu", "2"];
  const { code, stdout } = await dstack(...argv, "--json");
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(stdout), {
    launch_digest:
      "88b48404819692fd2a5068f1a07bf1973bbcaa1314adc670705f9388762a759faf889f8e2c71fe1ec892554415257960",
    os_image_hash: toHex(imageHashOf(image)),
    vcpus: 2,
    vcpu_type: "EPYC-v4",
    guest_features: 1,
  });
  assert.match((await dstack(...argv)).stdout, /^Launch +88b48404/m);
  const other = await dstack(...argv, "--vcpu-type", "Opteron");
  assert.match(other.stderr, /processor model "Opteron" is unknown/);
  const tdxOnly = await terminalWithImage();
  const refused = await tdxOnly.dstack("measure", "--image", "img", "--tee", "snp");
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /no measurement\.snp\.cbor/);
});

test("explain names the input behind each register", async () => {
  const { dstack } = await terminalWithImage();
  const explain = [
    "measure",
    "explain",
    "--image",
    "img",
    "cpu=2,memory=2G",
    "cpu=2,memory=1G,pic=on",
  ];
  const { code, stdout } = await dstack(...explain);
  assert.equal(code, 0);
  assert.equal(
    stdout,
    `pic: by release -> on
  moves RTMR0
    acpi_tables (APIC)
memory: 2048 MiB -> 1024 MiB
  moves RTMR0, RTMR1
    td_hob
    acpi_tables (DSDT)
    kernel
`,
  );
  const json = JSON.parse((await dstack(...explain, "--json")).stdout);
  assert.deepEqual(json[0].inputs, [{ input: "pic", before: "by release", after: "on" }]);
  assert.deepEqual(json[0].registers, ["rtmr0"]);
});

test("explain takes what measure printed, and another image", async () => {
  const other = await imageFolderFiles({ ...IMAGE_FILES, cmdline: `${IMAGE_FILES.cmdline} quiet` });
  const { dstack } = await terminalWithImage(
    Object.fromEntries([...other].map(([name, bytes]) => [`other/${name}`, bytes])),
  );
  const measured = (await dstack("measure", "--image", "img", "--cpu", "3", "--json")).stdout;
  const image = await terminalWithImage({
    "measured.json": measured,
    ...Object.fromEntries([...other].map(([name, bytes]) => [`other/${name}`, bytes])),
  });
  const { stdout } = await image.dstack(
    ...["measure", "explain", "measured.json", "cpu=3,memory=2G"],
    ...["--image", "img", "--to-image", "other", "--json"],
  );
  const moves = JSON.parse(stdout);
  assert.deepEqual(
    moves.map((move: { inputs: { input: string }[]; registers: string[] }) => [
      move.inputs.map(({ input }) => input),
      move.registers,
    ]),
    [[["cmdline"], ["rtmr2"]]],
  );
  const same = await image.dstack("measure", "explain", "cpu=3", "cpu=3", "--image", "img");
  assert.equal(same.stdout, "The shapes are the same.\n");
});

test("explain refuses words and files that are no shape", async () => {
  const { dstack } = await terminalWithImage({ "list.json": "[]" });
  const explain = async (shape: string) =>
    await dstack("measure", "explain", "--image", "img", shape, "cpu=1");
  for (const shape of ["cpu", "cpu=x", "pic=maybe", "colour=red", "list.json"]) {
    const { code, stderr } = await explain(shape);
    assert.equal(code, 2, `${shape}: ${stderr}`);
    assert.match(stderr, /input\/malformed/);
  }
});
