import { readdir, readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import {
  isReportedInterface,
  type NetworkInfo,
  parseGateways,
  parseNameservers,
} from "../agent/network-info.ts";
import { run } from "./run.ts";

export async function readNetworkInfo(): Promise<NetworkInfo> {
  const addresses = networkInterfaces();
  const names = (await readdir("/sys/class/net")).filter(isReportedInterface).sort();
  const counter = async (name: string, counter: string) =>
    Number(await readFile(`/sys/class/net/${name}/statistics/${counter}`, "utf8"));
  const wireGuard = await run(["wg"], { timeoutMs: 5000 });
  return {
    dnsServers: parseNameservers(await readFile("/etc/resolv.conf", "utf8").catch(() => "")),
    gateways: parseGateways(await readFile("/proc/net/route", "utf8")),
    interfaces: await Promise.all(names.map(async (name) => ({
      name,
      addresses: (addresses[name] ?? []).map(({ cidr, address }) => ({
        address,
        prefix: Number(cidr?.split("/")[1] ?? 0),
      })),
      counters: {
        rxBytes: await counter(name, "rx_bytes"),
        txBytes: await counter(name, "tx_bytes"),
        rxErrors: await counter(name, "rx_errors"),
        txErrors: await counter(name, "tx_errors"),
      },
    }))),
    wireGuard: wireGuard.code === 0 ? wireGuard.stdout : wireGuard.stderr,
  };
}
