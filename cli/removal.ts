import { AppError } from "#core/errors/app-error.ts";
import { type CliPorts, dataOf, type DstackdClient } from "./context.ts";
import { listCvms } from "./cvm-lookup.ts";

const POLL_MS = 200;
const TIMEOUT_MS = 60_000;

/** Removes a CVM and waits until nothing of it is left: neither its disk nor its host ports. */
export async function removeCvm(
  client: DstackdClient,
  id: string,
  ports: CliPorts,
): Promise<void> {
  dataOf(await client.POST("/prpc/RemoveVm", { body: { id } }));
  const deadlineMs = ports.now().getTime() + TIMEOUT_MS;
  while ((await listCvms(client)).some((cvm) => cvm.id === id)) {
    if (ports.now().getTime() > deadlineMs) {
      throw new AppError(
        "upstream/unavailable",
        `${id} is not gone after ${TIMEOUT_MS / 1000} s; dstackd's log says what is in the way`,
      );
    }
    await ports.sleep(POLL_MS);
  }
}
