import { toBase64 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { optionValue, plainValue } from "./option-value.ts";

/** One published port: `hostAddress:hostPort` on the host reaches `vmPort` in the guest. */
export interface HostForward {
  readonly protocol: "tcp" | "udp";
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly vmPort: number;
}

export type NicLaunch =
  | {
    readonly mode: "user";
    readonly mac: string;
    /** CIDR of the guest's network; QEMU's own end is its second address, 10.0.2.2. */
    readonly net: string;
    readonly dhcpStart: string;
    readonly restrict: boolean;
  }
  | { readonly mode: "bridge"; readonly mac: string; readonly bridge: string };

export type TeeLaunch =
  | { readonly kind: "none" }
  | {
    readonly kind: "tdx";
    /** MRCONFIGID, 48 bytes. */
    readonly mrConfigId?: Uint8Array;
    /** vsock port of the quote generation service on CID 2. */
    readonly qgsPort?: number;
  };

/** SMBIOS strings by structure type, 0 to 3. */
export type SmbiosStrings = ReadonlyMap<number, ReadonlyMap<string, string>>;

/** Everything that decides a QEMU command line; paths are absolute. */
export interface QemuLaunch {
  readonly qemuPath: string;
  readonly accelerator: "kvm" | "tcg";
  readonly tee: TeeLaunch;
  readonly workDir: string;
  /** Firmware image; without one QEMU's own SeaBIOS starts the kernel, which is faster. */
  readonly firmware?: string;
  readonly kernel: string;
  readonly initrd: string;
  readonly commandLine: string;
  readonly rootfs: string;
  /** dm-verity volumes, attached read-only after the data disk in this order. */
  readonly volumes: readonly string[];
  readonly nics: readonly NicLaunch[];
  readonly forwards: readonly HostForward[];
  readonly smbios: SmbiosStrings;
  readonly vsockCid?: number;
  readonly hostShare: "9p" | "vhd" | "vvfat";
  readonly sharedReadOnly: boolean;
  readonly hotplugOff: boolean;
  /** Size of the 64-bit PCI hole in bytes; 0 leaves QEMU's own choice. */
  readonly pciHole64Size: bigint;
  readonly vcpus: number;
  readonly memoryMib: number;
}

/**
 * The argument vector of one VM. The order of `-device` fixes the PCI slots, hence the ACPI tables and
 * RTMR0 of a real TD: do not reorder (spec/vmm.md section 7.1).
 */
export function qemuArgv(launch: QemuLaunch): string[] {
  const dir = optionValue("work directory", launch.workDir);
  const kvm = launch.accelerator === "kvm";
  const argv = [launch.qemuPath, ...accelerator(launch), "-nographic", "-nodefaults"];
  argv.push(
    "-chardev",
    `pty,id=com0,path=${dir}/serial.pty,logfile=${dir}/serial.log,logappend=on`,
    "-serial",
    "chardev:com0",
    "-qmp",
    monitorArgument(dir),
  );
  if (launch.tee.kind === "tdx") {
    if (!kvm) throw new AppError("input/unsupported", "A TD needs KVM");
    if (launch.firmware === undefined) {
      throw new AppError("input/malformed", "A TD needs the firmware its image names (bios)");
    }
  } else {
    // A TD ends on reset and starts anew under new registers; a plain VM must behave likewise.
    argv.push("-no-reboot");
  }
  if (launch.firmware !== undefined) argv.push("-bios", plainValue("firmware", launch.firmware));
  argv.push("-kernel", plainValue("kernel", launch.kernel));
  argv.push("-initrd", optionValue("initrd", launch.initrd));
  if (launch.hotplugOff) {
    argv.push("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off");
  }
  if (launch.pciHole64Size > 0n) {
    argv.push("-global", `q35-pcihost.pci-hole64-size=0x${launch.pciHole64Size.toString(16)}`);
  }
  argv.push(...disk("hd0", optionValue("root image", launch.rootfs), ",format=raw,readonly=on"));
  argv.push(...disk("hd1", `${dir}/hda.img`, ",format=qcow2"));
  launch.volumes.forEach((volume, i) =>
    argv.push(...disk(`vol${i}`, optionValue("volume", volume), ",format=raw,readonly=on"))
  );
  argv.push(...nics(launch));
  argv.push(...smbios(launch.smbios));
  if (launch.vsockCid !== undefined) {
    argv.push("-device", `vhost-vsock-pci,guest-cid=${optionValue("CID", launch.vsockCid)}`);
  }
  argv.push(...hostShare(launch, dir));
  argv.push(...machine(launch));
  argv.push("-smp", String(launch.vcpus), "-m", `${launch.memoryMib}M`);
  if (launch.commandLine !== "") {
    argv.push("-append", plainValue("kernel command line", launch.commandLine));
  }
  return argv;
}

/** Names the VM's own socket, so it is found among no other process's arguments. */
export function monitorArgument(workDir: string): string {
  return `unix:${workDir}/qmp.sock,server=on,wait=off`;
}

function accelerator(launch: QemuLaunch): string[] {
  return launch.accelerator === "kvm"
    ? ["-accel", "kvm", "-cpu", "host"]
    : ["-accel", "tcg,thread=multi", "-cpu", TCG_CPU];
}

/**
 * Everything TCG emulates but what makes a guest slower under it: `rep movsb` and `rep stosb`, which it runs
 * byte by byte and fast-string flags make guests prefer; SMAP, which ends a translation block at each
 * access to user memory; five-level page tables. Page faults and copies cost a third (measured, QEMU 11.1).
 */
const TCG_CPU = "max,erms=off,fsrm=off,smap=off,la57=off";

function disk(id: string, file: string, options: string): string[] {
  return [
    "-drive",
    `file=${file},if=none,id=${id}${options}`,
    "-device",
    `virtio-blk-pci,drive=${id}`,
  ];
}

function nics(launch: QemuLaunch): string[] {
  const argv: string[] = [];
  let forwarded = false;
  launch.nics.forEach((nic, i) => {
    let backend: string;
    if (nic.mode === "bridge") {
      backend = `bridge,id=net${i},br=${optionValue("bridge", nic.bridge)}`;
    } else {
      backend = `user,id=net${i},net=${optionValue("network", nic.net)}` +
        `,dhcpstart=${optionValue("first DHCP address", nic.dhcpStart)}` +
        `,restrict=${nic.restrict ? "yes" : "no"}`;
      if (!forwarded) backend += launch.forwards.map(hostForward).join("");
      forwarded = true;
    }
    argv.push(
      "-netdev",
      backend,
      "-device",
      `virtio-net-pci,netdev=net${i},mac=${optionValue("MAC", nic.mac)}`,
    );
  });
  return argv;
}

function hostForward(forward: HostForward): string {
  const address = optionValue("host address", forward.hostAddress);
  const host = address.includes(":") ? `[${address}]` : address;
  return `,hostfwd=${forward.protocol}:${host}:${forward.hostPort}-:${forward.vmPort}`;
}

function smbios(strings: SmbiosStrings): string[] {
  const argv: string[] = [];
  for (const type of [0, 1, 2, 3]) {
    const values = strings.get(type);
    if (values === undefined || values.size === 0) continue;
    const pairs = [...values].map(([key, value]) =>
      `${key}=${optionValue(`SMBIOS ${key}`, value)}`
    );
    argv.push("-smbios", [`type=${type}`, ...pairs].join(","));
  }
  return argv;
}

function hostShare(launch: QemuLaunch, dir: string): string[] {
  switch (launch.hostShare) {
    case "9p":
      return [
        "-virtfs",
        `local,path=${dir}/shared,mount_tag=host-shared,readonly=${
          launch.sharedReadOnly ? "on" : "off"
        },security_model=mapped,id=virtfs0`,
      ];
    case "vvfat":
      return [
        "-blockdev",
        `driver=vvfat,node-name=vvfat0,read-only=on,dir=${dir}/shared,label=DSTACKSHR`,
        "-device",
        "virtio-blk-pci,drive=vvfat0",
      ];
    case "vhd":
      return disk("hd2", `${dir}/shared.img`, ",format=raw,readonly=on");
  }
}

function machine(launch: QemuLaunch): string[] {
  const split = launch.accelerator === "kvm" ? ",kernel-irqchip=split" : "";
  if (launch.tee.kind === "none") return ["-machine", `q35${split},hpet=off`];
  const object: Record<string, unknown> = { "qom-type": "tdx-guest", id: "tdx" };
  const { mrConfigId, qgsPort } = launch.tee;
  if (mrConfigId !== undefined) {
    if (mrConfigId.length !== 48) throw new TypeError("MRCONFIGID has 48 bytes");
    object["mrconfigid"] = toBase64(mrConfigId);
  }
  if (qgsPort !== undefined) {
    // QEMU's SocketAddress takes cid and port as strings.
    object["quote-generation-socket"] = { type: "vsock", cid: "2", port: String(qgsPort) };
  }
  return [
    "-machine",
    `q35${split},confidential-guest-support=tdx,hpet=off`,
    "-object",
    JSON.stringify(object),
  ];
}
