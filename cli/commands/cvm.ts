import type { Command } from "commander";
import { AppError } from "#core/errors/app-error.ts";
import { type CliPorts, dataOf, dstackdClient, type GlobalOptions } from "../context.ts";
import { parseCount } from "../count.ts";
import { findCvm, listCvms } from "../cvm-lookup.ts";
import { removeCvm } from "../removal.ts";
import { renderTable } from "../table.ts";
import { waitUntilServing } from "../wait.ts";
import { urlOf } from "./deploy.ts";

const CVM_ARGUMENT = "id (or its beginning), name, app id or instance id";

/** Commands about CVMs that exist: ps, info, logs, start, stop, rm. */
export function addCvmCommands(program: Command, ports: CliPorts): void {
  program.command("ps")
    .description("List CVMs")
    .addHelpText("after", "\nExample:\n  $ dstack ps --json")
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const cvms = await listCvms(await dstackdClient(options, ports));
      if (options.json) return ports.print(JSON.stringify({ cvms }));
      const rows = cvms.map((cvm) => [
        cvm.id.slice(0, 8),
        cvm.name,
        cvm.status,
        cvm.bootError || cvm.bootProgress,
        cvm.tee,
        cvm.appId,
      ]);
      ports.print(renderTable(["ID", "NAME", "STATUS", "BOOT", "TEE", "APP ID"], rows).trimEnd());
    });

  program.command("info")
    .description("Show one CVM with the phases of its latest boot")
    .argument("<cvm>", CVM_ARGUMENT)
    .addHelpText("after", "\nExample:\n  $ dstack info web")
    .action(async (wanted: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const client = await dstackdClient(options, ports);
      const cvm = await findCvm(client, wanted);
      const url = await urlOf(client, cvm);
      if (options.json) return ports.print(JSON.stringify({ ...cvm, url }));
      const facts: [string, string][] = [
        ["id", cvm.id],
        ["name", cvm.name],
        ["status", cvm.status],
        ["boot", cvm.bootError || cvm.bootProgress],
        ["TEE", cvm.tee === "simulated" ? "SIMULATED" : cvm.tee],
        ["image", cvm.image],
        ["app id", cvm.appId],
        ["instance id", cvm.instanceId],
        ["compose hash", cvm.composeHash],
        ["URL", url],
      ];
      const phases = cvm.phases.map(({ name, seconds }) =>
        `  ${seconds === undefined ? "      …" : `${seconds.toFixed(1).padStart(6)} s`}  ${name}`
      );
      const lines = facts.filter(([, value]) => value !== "")
        .map(([name, value]) => `${name.padEnd(13)} ${value}`);
      ports.print([...lines, ...(phases.length > 0 ? ["boot phases", ...phases] : [])].join("\n"));
    });

  program.command("logs")
    .description("Print a CVM's serial log, or the output of one of its containers")
    .argument("<cvm>", CVM_ARGUMENT)
    .option("-c, --container <name>", "a container whose app publishes its logs")
    .option("--channel <name>", "serial, stdout or stderr of the CVM's QEMU", "serial")
    .option("-n, --lines <n>", "how many lines from the end", "200")
    .option("-f, --follow", "go on as lines are written")
    .addHelpText("after", "\nExample:\n  $ dstack logs web --container hello-web-1 -f")
    .action(async (wanted: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<
        GlobalOptions & { container?: string; channel: string; lines: string; follow?: boolean }
      >();
      const lines = parseCount(options.lines, "--lines");
      const client = await dstackdClient(options, ports);
      const { id } = await findCvm(client, wanted);
      const follow = options.follow ?? false;
      const answer = options.container === undefined
        ? await client.GET("/logs", {
          params: {
            query: {
              id,
              ch: options.channel as "serial",
              lines,
              follow,
            },
          },
          parseAs: "stream",
        })
        : await client.GET("/v1/cvms/{id}/containers/{name}/logs", {
          params: {
            path: { id, name: options.container },
            query: { follow, tail: String(lines) },
          },
          parseAs: "stream",
        });
      const body = dataOf(answer) as ReadableStream<Uint8Array> | null;
      if (body === null) return;
      const decoder = new TextDecoder();
      for await (const chunk of body) ports.write(decoder.decode(chunk, { stream: true }));
    });

  program.command("start")
    .description("Start a stopped CVM")
    .argument("<cvm>", CVM_ARGUMENT)
    .option("--wait", "wait until the app has booted")
    .option("--timeout <seconds>", "longest wait", "300")
    .addHelpText("after", "\nExample:\n  $ dstack start web --wait")
    .action(async (wanted: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<
        GlobalOptions & { wait?: boolean; timeout: string }
      >();
      const timeoutMs = parseCount(options.timeout, "--timeout") * 1000;
      const client = await dstackdClient(options, ports);
      let cvm = await findCvm(client, wanted);
      dataOf(await client.POST("/prpc/StartVm", { body: { id: cvm.id } }));
      if (options.wait) {
        cvm = await waitUntilServing(client, cvm.id, timeoutMs, ports, options.json === true);
      }
      ports.print(options.json ? JSON.stringify({ id: cvm.id }) : `Started ${cvm.id}`);
    });

  program.command("stop")
    .description("Shut a CVM down; its disk and keys stay")
    .argument("<cvm>", CVM_ARGUMENT)
    .option("--force", "end it at once, as a power cut would")
    .option("--timeout <seconds>", "how long the guest may take", "60")
    .addHelpText("after", "\nExample:\n  $ dstack stop web")
    .action(async (wanted: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<
        GlobalOptions & { force?: boolean; timeout: string }
      >();
      const timeoutMs = parseCount(options.timeout, "--timeout") * 1000;
      const client = await dstackdClient(options, ports);
      const { id } = await findCvm(client, wanted);
      if (options.force) dataOf(await client.POST("/prpc/StopVm", { body: { id } }));
      else {
        dataOf(await client.POST("/prpc/ShutdownVm", { body: { id } }));
        await untilStopped();
      }
      ports.print(options.json ? JSON.stringify({ id }) : `Stopped ${id}`);

      async function untilStopped(): Promise<void> {
        const deadlineMs = ports.now().getTime() + timeoutMs;
        while (["running", "stopping"].includes((await findCvm(client, id)).status)) {
          if (ports.now().getTime() > deadlineMs) {
            throw new AppError(
              "upstream/unavailable",
              `${wanted} did not shut down in ${
                timeoutMs / 1000
              } s; 'dstack stop ${wanted} --force' ends it`,
            );
          }
          await ports.sleep(500);
        }
      }
    });

  program.command("rm")
    .description("Remove a CVM with its disk; what it wrote is gone for good")
    .argument("<cvm>", CVM_ARGUMENT)
    .option("--force", "also when it runs")
    .addHelpText("after", "\nExample:\n  $ dstack rm web --force")
    .action(async (wanted: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions & { force?: boolean }>();
      const client = await dstackdClient(options, ports);
      const { id, status } = await findCvm(client, wanted);
      if (status === "running" && !options.force) {
        throw new AppError(
          "resource/conflict",
          `${wanted} is running; stop it first, or 'dstack rm ${wanted} --force'`,
        );
      }
      await removeCvm(client, id, ports);
      ports.print(options.json ? JSON.stringify({ id }) : `Removed ${id}`);
    });
}
