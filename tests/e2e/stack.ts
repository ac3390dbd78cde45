/** The demo's programs with a state and ports of their own, for tests that boot real VMs. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { DemoFlow, type GuestImage } from "../../scripts/lib/demo-flow.ts";
import { DemoStack } from "../../scripts/lib/demo-stack.ts";

export const ROOT = join(import.meta.dirname, "../..");

export interface TestStack extends AsyncDisposable {
  readonly flow: DemoFlow;
  readonly stack: DemoStack;
  readonly qemu: string;
  readonly image: GuestImage;
  /** The hello image by digest, in this stack's registry. */
  readonly pinned: string;
}

/** Why no VM is booted here, or undefined. */
export function missing(): string | undefined {
  return process.getuid?.() === 0 ? undefined : "skipped: root, for the VM's disks and the gateway";
}

/** Everything up to and without a deployed app. `portBase`: first of 20 ports. */
export async function startStack(portBase: number): Promise<TestStack> {
  const state = mkdtempSync(join(tmpdir(), "dstack-e2e-"));
  const stack = new DemoStack(ROOT, state, portBase);
  const flow = new DemoFlow({
    stack,
    root: ROOT,
    simulated: true,
    onDetail: () => {},
  });
  const stop = async () => {
    await flow.down();
    rmSync(state, { recursive: true, force: true });
  };
  try {
    const qemu = await flow.hostTools();
    const image = await flow.buildImage("dev");
    const pinned = await flow.serveAppImage();
    await flow.startPrograms(qemu, image.store);
    return { flow, stack, qemu, image, pinned, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
