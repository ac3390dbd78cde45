import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { type AddressInfo, createConnection, createServer } from "node:net";
import { AppError } from "#core/errors/app-error.ts";
import { QmpClient, type TextStream } from "../qemu/qmp.ts";
import type { ProcessIdentity, VmRunner } from "../vmm/ports.ts";

const HOST_BOOT_ID = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();

/** QEMU as processes of this host that outlive dstackd. */
export const qemuRunner: VmRunner = {
  async launch(argv, { cwd, stdoutPath, stderrPath }) {
    const stdout = openSync(stdoutPath, "a", 0o600);
    const stderr = openSync(stderrPath, "a", 0o600);
    try {
      const [command, ...args] = argv;
      const child = spawn(command!, args, {
        cwd,
        // A session of its own: signals to dstackd's terminal or group do not reach it.
        detached: true,
        stdio: ["ignore", stdout, stderr],
        env: { PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin" },
      });
      try {
        await once(child, "spawn");
      } catch (cause) {
        throw new AppError("cvm/launch-failed", `Cannot run ${command}`, { cause });
      }
      child.unref();
      const startTicks = readStat(child.pid!)?.startTicks;
      if (startTicks === undefined) {
        throw new AppError("cvm/launch-failed", `${command} ended at once`);
      }
      return { pid: child.pid!, startTicks, hostBootId: HOST_BOOT_ID };
    } finally {
      closeSync(stdout);
      closeSync(stderr);
    }
  },

  isAlive,

  async findByArgument(argument) {
    const found: ProcessIdentity[] = [];
    for (const name of await readdir("/proc")) {
      if (!/^\d+$/.test(name)) continue;
      const pid = Number(name);
      const args = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => ""); // ended meanwhile
      const startTicks = args.split("\0").includes(argument)
        ? readStat(pid)?.startTicks
        : undefined;
      if (startTicks !== undefined) found.push({ pid, startTicks, hostBootId: HOST_BOOT_ID });
    }
    return found;
  },

  kill(identity) {
    if (!isAlive(identity)) return;
    try {
      process.kill(-identity.pid, "SIGKILL");
    } catch (error) {
      if (!isNoSuchProcess(error)) throw error;
      process.kill(identity.pid, "SIGKILL"); // not the leader of a group
    }
  },

  connectMonitor(socketPath) {
    return QmpClient.connect(unixStream(socketPath));
  },

  async freePort() {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    return port;
  },

  async requireFree(protocol, address, port) {
    try {
      if (protocol === "tcp") {
        const server = createServer();
        server.listen({ host: address, port, exclusive: true });
        await once(server, "listening");
        server.close();
        await once(server, "close");
      } else {
        const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
        socket.bind({ address, port, exclusive: true });
        await once(socket, "listening");
        socket.close();
        await once(socket, "close");
      }
    } catch (cause) {
      throw new AppError(
        "host/port-taken",
        `Host port ${protocol}:${address}:${port} cannot be used: something else listens there`,
        { cause, fields: { protocol, address, port } },
      );
    }
  },
};

function isAlive({ pid, startTicks, hostBootId }: ProcessIdentity): boolean {
  if (hostBootId !== HOST_BOOT_ID) return false;
  const stat = readStat(pid);
  return stat !== undefined && stat.startTicks === startTicks && !"ZX".includes(stat.state);
}

/** State (field 3) and start time (field 22) of /proc/<pid>/stat (proc(5)). */
function readStat(pid: number): { state: string; startTicks: string } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch (error) {
    if (
      error instanceof Error && "code" in error && ["ENOENT", "ESRCH"].includes(`${error.code}`)
    ) {
      return undefined;
    }
    throw error;
  }
  // The command name may hold anything; fields are counted after its closing parenthesis.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0]!, startTicks: fields[19]! };
}

function isNoSuchProcess(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ESRCH";
}

function unixStream(path: string): TextStream {
  const socket = createConnection({ path });
  return {
    send: (text) => void socket.write(text),
    start({ text, closed }) {
      let cause: unknown;
      socket.setEncoding("utf8");
      socket.on("data", (chunk) => text(String(chunk)));
      socket.on("error", (error) => cause = error);
      socket.on("close", () => closed(cause));
    },
    close: () => void socket.destroy(),
  };
}
