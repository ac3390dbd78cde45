import { type Command, Option } from "commander";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import {
  attestationVariantOf,
  VARIANT_POLICIES,
  type VariantPolicy,
} from "#core/measurement/attestation-variant.ts";
import { explainRegisters, type RegisterMove } from "#core/measurement/explain-registers.ts";
import {
  type ExpectedRegisters,
  expectedTdxRegisters,
} from "#core/measurement/expected-registers.ts";
import { MeasuredImage, type TdxImageFiles, vmShapeOf } from "#core/measurement/measure-image.ts";
import { parseTdxMeasurementDocument } from "#core/measurement/tdx-measurement-document.ts";
import {
  type ImageFolder,
  readListedFile,
  readTdxFiles,
  type VerifiedImage,
  verifyImage,
} from "#core/measurement/verified-image.ts";
import { qemuReleaseOf, type VmConfig, vmConfigMembers } from "#core/measurement/vm-config.ts";
import { snpLaunchDigest } from "#core/sev-snp/launch-digest.ts";
import {
  parseSnpMeasurementDocument,
  SNP_DOCUMENT_NAME,
} from "#core/sev-snp/measurement-document.ts";
import type { CliPorts, GlobalOptions } from "../context.ts";
import { imageFolder } from "../image-folder.ts";
import {
  readShape,
  readShapeFile,
  shapeOf,
  type ShapeOptions,
  withShapeOptions,
} from "../vm-shape.ts";

interface MeasureOptions extends GlobalOptions, ShapeOptions {
  readonly image?: string;
  readonly imageHash?: string;
  readonly vmConfig?: string;
  readonly variant: VariantPolicy;
  readonly tee: "tdx" | "snp";
  readonly vcpuType: string;
}

interface ExplainOptions extends GlobalOptions {
  readonly image?: string;
  readonly toImage?: string;
}

export function addMeasure(program: Command, ports: CliPorts): void {
  const measure = program.command("measure")
    .description(
      "Predict what a guest image in a VM of some shape measures: TDX registers, SNP launch",
    )
    .option("--image <dir>", "guest image, every listed file of which is checked")
    .option("--image-hash <hex>", "refuse another image than the one of this digest")
    .option("--vm-config <file>", "the shape as vm_config JSON; options below change it")
    .addOption(
      new Option(
        "--variant <variant>",
        "attestation variant: from the image, or its document alone",
      )
        .choices(VARIANT_POLICIES).default("auto"),
    );
  withShapeOptions(measure)
    .addOption(
      new Option("--tee <tee>", "MRTD and RTMR0-2 of TDX, or the launch digest of SEV-SNP")
        .choices(["tdx", "snp"]).default("tdx"),
    )
    .option("--vcpu-type <model>", "QEMU's processor model, for SEV-SNP", "EPYC-v4")
    .addHelpText(
      "after",
      "\nExample:\n  $ dstack measure --image images/dstack-0.1.0 --cpu 4 --memory 8G --qemu 10.1.0 --json",
    )
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<MeasureOptions>();
      const { folder, verified } = await openImage(options.image, options.imageHash, ports);
      const base = options.vmConfig === undefined
        ? undefined
        : await readShapeFile(options.vmConfig, ports);
      const shape = shapeOf(options, base);
      if (options.tee === "snp") {
        const launch = await measureSnp(folder, verified, shape.cpuCount, options.vcpuType);
        ports.print(options.json ? JSON.stringify(launch, undefined, 2) : renderSnp(launch));
        return;
      }
      const config = configFor(shape, options.variant, verified);
      const registers = config.tdxAttestationVariant === "lite"
        ? await measureDocument(config)
        : await new MeasuredImage(await readTdxFiles(folder, verified)).measureVm(config);
      ports.print(
        options.json
          ? JSON.stringify(report(config, registers), undefined, 2)
          : render(config, registers),
      );
    });

  measure.command("explain")
    .description("Tell which input moved which register between two shapes")
    .argument("<from>", "a shape: cpu=4,memory=8G,hotplug-off, or a JSON file with vm_config")
    .argument("<to>", "another shape")
    .option("--image <dir>", "guest image of both")
    .option("--to-image <dir>", "guest image of the second shape, when it is another")
    .addHelpText(
      "after",
      "\nExample:\n  $ dstack measure explain --image images/dstack-0.1.0 cpu=2,memory=2G cpu=2,memory=1G,gpus=1",
    )
    .action(async (from: string, to: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<ExplainOptions>();
      const files = await readFiles(options.image, ports);
      const toFiles = options.toImage === undefined
        ? files
        : await readFiles(options.toImage, ports);
      const moves = await explainRegisters(
        { files, config: await readShape(from, ports) },
        { files: toFiles, config: await readShape(to, ports) },
      );
      ports.print(options.json ? JSON.stringify(moves, undefined, 2) : renderMoves(moves));
    });
}

async function openImage(
  directory: string | undefined,
  hash: string | undefined,
  ports: CliPorts,
): Promise<{ folder: ImageFolder; verified: VerifiedImage }> {
  if (directory === undefined) {
    throw new AppError("input/malformed", "--image is missing: the folder of a guest image");
  }
  const folder = imageFolder(directory.replace(/(?<=.)\/+$/, ""), ports);
  const expected = hash === undefined ? undefined : fromHex(hash, "--image-hash", 32);
  return { folder, verified: await verifyImage(folder, expected) };
}

async function readFiles(directory: string | undefined, ports: CliPorts): Promise<TdxImageFiles> {
  const { folder, verified } = await openImage(directory, undefined, ports);
  return await readTdxFiles(folder, verified);
}

/** What a VMM would tell the guest of this shape and image. */
function configFor(
  shape: VmConfig,
  policy: VariantPolicy,
  { osImageHash, manifest, checksumFile, tdxMeasurement }: VerifiedImage,
): VmConfig {
  const { tdxMeasurement: _, ovmfVariant: _other, ...rest } = shape;
  const hasDocument = tdxMeasurement !== undefined;
  return {
    ...rest,
    osImageHash,
    qemuVersion: qemuReleaseOf(shape).join("."),
    ...(manifest.ovmfVariant !== undefined && { ovmfVariant: manifest.ovmfVariant }),
    tdxAttestationVariant: attestationVariantOf(policy, shape.memoryBytes, hasDocument),
    ...(hasDocument && { tdxMeasurement: { checksumFile, measurement: tdxMeasurement } }),
  };
}

async function measureDocument(config: VmConfig): Promise<ExpectedRegisters> {
  const document = parseTdxMeasurementDocument(config.tdxMeasurement!.measurement);
  return expectedTdxRegisters({ ...await vmShapeOf(config), document });
}

/** SEV_FEATURES as dstack starts its guests: SNP is active, nothing else. */
const GUEST_FEATURES = 1;

async function measureSnp(
  folder: ImageFolder,
  verified: VerifiedImage,
  vcpus: number,
  vcpuType: string,
) {
  const bytes = await readListedFile(folder, verified, SNP_DOCUMENT_NAME);
  if (bytes === undefined) {
    throw new AppError(
      "measurement/unsupported",
      `The image is not for SEV-SNP: it has no ${SNP_DOCUMENT_NAME}`,
    );
  }
  const document = parseSnpMeasurementDocument(bytes);
  const digest = snpLaunchDigest({ ...document, vcpus, vcpuType, guestFeatures: GUEST_FEATURES });
  return {
    launch_digest: toHex(digest),
    os_image_hash: toHex(verified.osImageHash),
    vcpus,
    vcpu_type: vcpuType,
    guest_features: GUEST_FEATURES,
  };
}

function renderSnp(launch: Awaited<ReturnType<typeof measureSnp>>): string {
  return [
    `OS image  ${launch.os_image_hash}`,
    `vCPUs     ${launch.vcpus} ${launch.vcpu_type}`,
    `Launch    ${launch.launch_digest}`,
  ].join("\n");
}

/** Register names and the order of members are those of the reference's measuring tool. */
function report(config: VmConfig, { mrTd, rtmrs, events }: ExpectedRegisters) {
  const { tdx_measurement: _, ...vmConfig } = vmConfigMembers(config);
  return {
    mrtd: toHex(mrTd),
    rtmr0: toHex(rtmrs[0]),
    rtmr1: toHex(rtmrs[1]),
    rtmr2: toHex(rtmrs[2]),
    os_image_hash: toHex(config.osImageHash),
    variant: config.tdxAttestationVariant,
    events: events.map(({ imr, label, digest }) => ({
      register: `rtmr${imr}`,
      label,
      digest: toHex(digest),
    })),
    vm_config: vmConfig,
  };
}

function render(config: VmConfig, registers: ExpectedRegisters): string {
  const { mrtd, rtmr0, rtmr1, rtmr2, os_image_hash, variant } = report(config, registers);
  return [
    ["OS image", os_image_hash],
    ["QEMU", config.qemuVersion],
    ["Variant", variant],
    ["MRTD", mrtd],
    ["RTMR0", rtmr0],
    ["RTMR1", rtmr1],
    ["RTMR2", rtmr2],
  ].map(([name, value]) => `${name!.padEnd(9)} ${value}`).join("\n");
}

function renderMoves(moves: readonly RegisterMove[]): string {
  if (moves.length === 0) return "The shapes are the same.";
  return moves.map(({ inputs, registers, events }) => {
    const changes = inputs.map(({ input, before, after }) => `${input}: ${before} -> ${after}`);
    const moved = registers.length === 0
      ? "moves no register"
      : `moves ${registers.map((name) => name.toUpperCase()).join(", ")}`;
    return [changes.join(" and "), `  ${moved}`, ...events.map((event) => `    ${event}`)].join(
      "\n",
    );
  }).join("\n");
}
