import assert from "node:assert/strict";
import { test } from "node:test";
import { qemuArgv, type QemuLaunch } from "./argv.ts";

const BASE: QemuLaunch = {
  qemuPath: "/usr/bin/qemu-system-x86_64",
  accelerator: "kvm",
  tee: { kind: "none" },
  workDir: "/run/vm/vm-123",
  kernel: "/images/a/bzImage",
  initrd: "/images/a/initramfs.cpio.gz",
  commandLine: "console=ttyS0 init=/init panic=1",
  rootfs: "/images/a/rootfs.img.parted.verity",
  volumes: [],
  nics: [{
    mode: "user",
    mac: "96:b1:d8:b9:08:e6",
    net: "10.0.2.0/24",
    dhcpStart: "10.0.2.10",
    restrict: false,
  }],
  forwards: [],
  smbios: new Map([[1, new Map([["manufacturer", "dstack"], ["product", "dstack"]])]]),
  hostShare: "vhd",
  sharedReadOnly: true,
  hotplugOff: false,
  pciHole64Size: 0n,
  vcpus: 2,
  memoryMib: 2048,
};

function argv(changes: Partial<QemuLaunch> = {}): string[] {
  return qemuArgv({ ...BASE, ...changes });
}

function values(args: readonly string[], flag: string): string[] {
  return args.flatMap((arg, i) => args[i - 1] === flag ? [arg] : []);
}

test("a TD's devices come in the measured order with the reference's option strings", () => {
  const args = argv({
    tee: {
      kind: "tdx",
      mrConfigId: Uint8Array.from({ length: 48 }, (_, i) => i === 0 ? 1 : i < 33 ? 0x22 : 0),
      qgsPort: 4050,
    },
    firmware: "/images/a/ovmf.fd",
    vsockCid: 1000,
    volumes: ["/volumes/one.img"],
  });
  assert.deepEqual(values(args, "-device"), [
    "virtio-blk-pci,drive=hd0",
    "virtio-blk-pci,drive=hd1",
    "virtio-blk-pci,drive=vol0",
    "virtio-net-pci,netdev=net0,mac=96:b1:d8:b9:08:e6",
    "vhost-vsock-pci,guest-cid=1000",
    "virtio-blk-pci,drive=hd2",
  ]);
  assert.deepEqual(values(args, "-machine"), [
    "q35,kernel-irqchip=split,confidential-guest-support=tdx,hpet=off",
  ]);
  // Vector of spec/vmm.md section 4.6: V1 of the compose hash 0x22 * 32.
  assert.deepEqual(JSON.parse(values(args, "-object")[0]!), {
    "qom-type": "tdx-guest",
    id: "tdx",
    mrconfigid: "ASIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiAAAAAAAAAAAAAAAAAAAA",
    "quote-generation-socket": { type: "vsock", cid: "2", port: "4050" },
  });
  assert.deepEqual(values(args, "-bios"), ["/images/a/ovmf.fd"]);
  assert.deepEqual(values(args, "-smbios"), ["type=1,manufacturer=dstack,product=dstack"]);
  assert.deepEqual(args.slice(-6), [
    "-smp",
    "2",
    "-m",
    "2048M",
    "-append",
    "console=ttyS0 init=/init panic=1",
  ]);
  assert.ok(!args.includes("-no-reboot"), "a TD cannot be reset anyway");
});

test("the simulated TEE is a plain machine that ends on reboot", () => {
  const kvm = argv();
  assert.deepEqual(values(kvm, "-machine"), ["q35,kernel-irqchip=split,hpet=off"]);
  assert.deepEqual(values(kvm, "-accel"), ["kvm"]);
  assert.deepEqual(values(kvm, "-cpu"), ["host"]);
  assert.ok(kvm.includes("-no-reboot"));
  const tcg = argv({ accelerator: "tcg" });
  assert.deepEqual(values(tcg, "-accel"), ["tcg,thread=multi"]);
  assert.deepEqual(values(tcg, "-cpu"), ["max,erms=off,fsrm=off,smap=off,la57=off"]);
  assert.ok(!tcg.join(" ").includes("confidential-guest-support"));
});

test("only the first user NIC carries host forwards", () => {
  const nic = BASE.nics[0]!;
  const args = argv({
    nics: [{ mode: "bridge", mac: "02:00:00:00:00:01", bridge: "virbr0" }, nic, nic],
    forwards: [
      { protocol: "tcp", hostAddress: "127.0.0.1", hostPort: 8443, vmPort: 443 },
      { protocol: "udp", hostAddress: "::1", hostPort: 53, vmPort: 53 },
    ],
  });
  assert.deepEqual(values(args, "-netdev"), [
    "bridge,id=net0,br=virbr0",
    "user,id=net1,net=10.0.2.0/24,dhcpstart=10.0.2.10,restrict=no" +
    ",hostfwd=tcp:127.0.0.1:8443-:443,hostfwd=udp:[::1]:53-:53",
    "user,id=net2,net=10.0.2.0/24,dhcpstart=10.0.2.10,restrict=no",
  ]);
});

test("host shares, hole size and hotplug switch take the reference's form", () => {
  assert.deepEqual(values(argv({ hostShare: "9p", sharedReadOnly: false }), "-virtfs"), [
    "local,path=/run/vm/vm-123/shared,mount_tag=host-shared,readonly=off,security_model=mapped,id=virtfs0",
  ]);
  assert.deepEqual(values(argv({ hostShare: "vvfat" }), "-blockdev"), [
    "driver=vvfat,node-name=vvfat0,read-only=on,dir=/run/vm/vm-123/shared,label=DSTACKSHR",
  ]);
  assert.deepEqual(values(argv({ hotplugOff: true, pciHole64Size: 0x10000000000n }), "-global"), [
    "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
    "q35-pcihost.pci-hole64-size=0x10000000000",
  ]);
});

const nic = BASE.nics[0]!;
const INJECTIONS: Record<string, Partial<QemuLaunch>> = {
  "work directory": { workDir: "/run/vm,logfile=/etc/passwd" },
  "root image": { rootfs: "/images/a,readonly=off" },
  initrd: { initrd: "/images/a,b" },
  volume: { volumes: ["/v/bad,readonly=off"] },
  bridge: { nics: [{ mode: "bridge", mac: "02:00:00:00:00:01", bridge: "br0,id=x" }] },
  MAC: { nics: [{ mode: "bridge", mac: "02:00,x=1", bridge: "br0" }] },
  network: {
    nics: [{
      ...nic,
      mode: "user",
      net: "10.0.2.0/24,smb=/",
      dhcpStart: "10.0.2.10",
      restrict: true,
    }],
  },
  "host address": {
    forwards: [{ protocol: "tcp", hostAddress: "127.0.0.1,smb=/", hostPort: 1, vmPort: 1 }],
  },
  SMBIOS: { smbios: new Map([[1, new Map([["product", "x,uuid=1"]])]]) },
  "kernel command line": { commandLine: "a\nb" },
  firmware: { firmware: "/a\0b" },
};
for (const [what, change] of Object.entries(INJECTIONS)) {
  test(`a ${what} that would inject an option is refused`, () => {
    assert.throws(() => argv(change), { code: "input/malformed" });
  });
}

test("a TD without firmware or KVM is refused", () => {
  assert.throws(() => argv({ tee: { kind: "tdx" } }), { code: "input/malformed" });
  assert.throws(
    () => argv({ tee: { kind: "tdx" }, firmware: "/f", accelerator: "tcg" }),
    { code: "input/unsupported" },
  );
});
