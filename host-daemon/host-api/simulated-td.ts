import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { encodeCcel } from "#core/event-log/ccel.ts";
import { mrConfigIdV1 } from "#core/compose/mr-config.ts";
import { extendRegister } from "#core/event-log/replay.ts";
import type { SimulatedPlatform } from "#core/tdx/simulated-platform.ts";
import { expectedTdxRegisters } from "#core/measurement/expected-registers.ts";
import { vmShapeOf } from "#core/measurement/measure-image.ts";
import { parseTdxMeasurementDocument } from "#core/measurement/tdx-measurement-document.ts";
import type { VmConfig } from "#core/measurement/vm-config.ts";
import type { CvmStore, SimulatedTd } from "../db/cvm-store.ts";
import { SerialQueue } from "../vmm/serial-queue.ts";

/** What decides the registers of a TD at its start. */
export interface TdLaunch {
  readonly cvmId: string;
  /** 32 bytes in hex. */
  readonly composeHash: string;
  readonly tdxMeasurement: Uint8Array;
  /** What the guest is told of its VM. */
  readonly config: VmConfig;
}

const REGISTER_BYTES = 48;

/**
 * Plays TDX module and quoting enclave for the VMs of this host (design section 5). What it says is worth
 * no more than the host itself, and its root says so by name; everything after it is the real path.
 */
export class SimulatedTds {
  readonly #store: CvmStore;
  readonly #platform: SimulatedPlatform;
  /** Extensions of one TD happen one after another. */
  readonly #queues = new Map<string, SerialQueue>();

  constructor(store: CvmStore, platform: SimulatedPlatform) {
    this.#store = store;
    this.#platform = platform;
  }

  /** Called before QEMU starts: launch registers, RTMR3 zero. Replaces what an earlier run left. */
  async begin(launch: TdLaunch): Promise<void> {
    const expected = expectedTdxRegisters({
      document: parseTdxMeasurementDocument(launch.tdxMeasurement),
      ...await vmShapeOf(launch.config),
    });
    await this.#store.saveSimulatedTd({
      cvmId: launch.cvmId,
      mrTd: toHex(expected.mrTd),
      mrConfigId: toHex(mrConfigIdV1(fromHex(launch.composeHash, "compose hash", 32))),
      rtmr0: toHex(expected.rtmrs[0]),
      rtmr1: toHex(expected.rtmrs[1]),
      rtmr2: toHex(expected.rtmrs[2]),
      rtmr3: "00".repeat(REGISTER_BYTES),
      ccel: encodeCcel(expected.events),
    });
  }

  /** Extends run-time register 2 or 3, the ones a guest may extend. */
  async extend(cvmId: string, index: number, digest: Uint8Array): Promise<void> {
    if (index !== 2 && index !== 3) {
      throw new AppError("input/malformed", "Only RTMR 2 and 3 can be extended by a guest");
    }
    if (digest.length !== REGISTER_BYTES) {
      throw new AppError("input/malformed", "digest must be 48 bytes");
    }
    await this.#queue(cvmId).run(async () => {
      const td = await this.#require(cvmId);
      const name = index === 2 ? "rtmr2" : "rtmr3";
      const value = toHex(extendRegister(fromHex(td[name]), digest));
      await this.#store.saveSimulatedTd({ ...td, [name]: value });
    });
  }

  /** A quote v4 over the registers as they are now. */
  async quote(cvmId: string, reportData: Uint8Array): Promise<Uint8Array> {
    if (reportData.length !== 64) {
      throw new AppError("input/malformed", "report_data must be 64 bytes");
    }
    const td = await this.#queue(cvmId).run(() => this.#require(cvmId));
    const register = (hex: string) => fromHex(hex, "register", REGISTER_BYTES);
    return this.#platform.signQuote({
      mrTd: register(td.mrTd),
      mrConfigId: register(td.mrConfigId),
      rtmrs: [register(td.rtmr0), register(td.rtmr1), register(td.rtmr2), register(td.rtmr3)],
      reportData,
    });
  }

  async ccel(cvmId: string): Promise<Uint8Array> {
    return new Uint8Array((await this.#require(cvmId)).ccel);
  }

  forget(cvmId: string): void {
    this.#queues.delete(cvmId);
  }

  #queue(cvmId: string): SerialQueue {
    let queue = this.#queues.get(cvmId);
    if (queue === undefined) this.#queues.set(cvmId, queue = new SerialQueue());
    return queue;
  }

  async #require(cvmId: string): Promise<SimulatedTd> {
    const td = await this.#store.findSimulatedTd(cvmId);
    if (td === undefined) {
      throw new AppError("resource/not-found", "This VM has no simulated TEE");
    }
    return td;
  }
}
