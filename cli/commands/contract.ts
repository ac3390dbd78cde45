import { type Command, Option } from "commander";
import {
  createPublicClient,
  createWalletClient,
  custom,
  defineChain,
  encodeFunctionData,
  getAddress,
  type Hex,
  isAddress,
  parseAbi,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { fromHex, toHex, utf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { CliPorts, GlobalOptions } from "../context.ts";
import { readInputText } from "../input-file.ts";

const OWNABLE = [
  "function owner() view returns (address)",
  "function pendingOwner() view returns (address)",
  "function transferOwnership(address newOwner)",
  "function acceptOwnership()",
] as const;

const KMS_ABI = parseAbi([
  ...OWNABLE,
  "function addKmsAggregatedMr(bytes32 mrAggregated)",
  "function removeKmsAggregatedMr(bytes32 mrAggregated)",
  "function addKmsDevice(bytes32 deviceId)",
  "function removeKmsDevice(bytes32 deviceId)",
  "function addOsImageHash(bytes32 osImageHash)",
  "function removeOsImageHash(bytes32 osImageHash)",
  "function gatewayAppId() view returns (string)",
  "function appImplementation() view returns (address)",
]);
const APP_ABI = parseAbi([
  ...OWNABLE,
  "function addComposeHash(bytes32 composeHash)",
  "function removeComposeHash(bytes32 composeHash)",
  "function addDevice(bytes32 deviceId)",
  "function removeDevice(bytes32 deviceId)",
  "function allowAnyDevice() view returns (bool)",
  "function requireTcbUpToDate() view returns (bool)",
]);

/** One kind of contract as the commands see it. */
interface Kind {
  readonly name: string;
  readonly abi: typeof KMS_ABI | typeof APP_ABI;
  /** What its lists hold, by the word of the command: the ends of `add…` and `remove…`. */
  readonly lists: Readonly<Record<string, string>>;
  readonly facts: readonly string[];
}

const KMS: Kind = {
  name: "KMS contract",
  abi: KMS_ABI,
  lists: { mr: "KmsAggregatedMr", device: "KmsDevice", image: "OsImageHash" },
  facts: ["owner", "pendingOwner", "gatewayAppId", "appImplementation"],
};
const APP: Kind = {
  name: "app contract",
  abi: APP_ABI,
  lists: { compose: "ComposeHash", device: "Device" },
  facts: ["owner", "pendingOwner", "allowAnyDevice", "requireTcbUpToDate"],
};

interface ContractOptions extends GlobalOptions {
  readonly rpc?: string;
  readonly contract: string;
  readonly keyFile?: string;
  readonly dryRun?: boolean;
  readonly safe?: string;
}

interface OwnerOptions extends ContractOptions {
  readonly transfer?: string;
  readonly accept?: boolean;
}

/** whitelist, remove, owner, status of the KMS contract. */
export function addKmsContract(kms: Command, ports: CliPorts): void {
  addContract(kms, KMS, "dstack kms", ports);
}

/** `dstack app`: the same of an app contract. */
export function addAppContract(program: Command, ports: CliPorts): void {
  const app = program.command("app").description("Govern an app contract");
  addContract(app, APP, "dstack app", ports);
}

function addContract(parent: Command, kind: Kind, prefix: string, ports: CliPorts): void {
  const [first] = Object.keys(kind.lists);
  const example = (rest: string) =>
    `\nExample:\n  $ ${prefix} ${rest} --contract 0x… --rpc https://rpc.example`;
  for (
    const [verb, start, what] of [["whitelist", "add", "Allow"], [
      "remove",
      "remove",
      "Stop allowing",
    ]]
  ) {
    writing(parent.command(verb!))
      .description(`${what} a hash on the ${kind.name}`)
      .argument("<list>", `one of ${Object.keys(kind.lists).join(", ")}`)
      .argument("<hash>", "32 bytes of hex")
      .addHelpText("after", example(`${verb} ${first} 0x… --key-file owner.key`))
      .action(async (list: string, hash: string, _own: unknown, command: Command) => {
        const name = Object.hasOwn(kind.lists, list) ? kind.lists[list] : undefined;
        if (name === undefined) {
          const known = Object.keys(kind.lists).join(", ");
          throw new AppError("input/malformed", `There is no list ${list}: ${known}`);
        }
        const value: Hex = `0x${toHex(fromHex(hash, "<hash>", 32))}`;
        await change(kind, `${start}${name}`, [value], command.optsWithGlobals(), ports);
      });
  }
  writing(parent.command("owner"))
    .description(`Show the owner of the ${kind.name}, or hand it over in two steps`)
    .option("--transfer <address>", "name the next owner")
    .option("--accept", "become the owner, as the one that was named")
    .addHelpText("after", example("owner --transfer 0x… --key-file owner.key"))
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<OwnerOptions>();
      if (options.transfer !== undefined) {
        const next = addressOf(options.transfer, "--transfer");
        return await change(kind, "transferOwnership", [next], options, ports);
      }
      if (options.accept) return await change(kind, "acceptOwnership", [], options, ports);
      await show(kind, ["owner", "pendingOwner"], options, ports);
    });
  onChain(parent.command("status"))
    .description(`Show the ${kind.name}`)
    .addHelpText("after", example("status"))
    .action(async (_own: unknown, command: Command) =>
      await show(kind, kind.facts, command.optsWithGlobals<ContractOptions>(), ports)
    );
}

function onChain(command: Command): Command {
  return command
    .requiredOption("--contract <address>", "the contract")
    .option("--rpc <url>", "JSON-RPC endpoint of its chain (ETH_RPC_URL)");
}

function writing(command: Command): Command {
  return onChain(command)
    .option("--key-file <file>", "file with the owner's private key, hex")
    .option("--dry-run", "print the calldata and send nothing")
    .addOption(
      new Option("--safe <file>", "write a transaction for Safe's builder and send nothing")
        .conflicts("dryRun"),
    );
}

async function change(
  kind: Kind,
  functionName: string,
  args: readonly unknown[],
  options: ContractOptions,
  ports: CliPorts,
): Promise<void> {
  const to = addressOf(options.contract, "--contract");
  const data = encodeFunctionData({ abi: kind.abi, functionName, args } as never);
  if (options.dryRun) {
    return ports.print(
      options.json ? JSON.stringify({ to, value: "0", data }) : `to ${to}\ndata ${data}`,
    );
  }
  const chainId = await chainOf(options, ports);
  if (options.safe !== undefined) {
    const batch = {
      version: "1.0",
      chainId: String(chainId),
      createdAt: ports.now().getTime(),
      meta: { name: `${functionName} on the ${kind.name}` },
      transactions: [{ to, value: "0", data, contractMethod: null, contractInputsValues: null }],
    };
    await ports.writeFile(options.safe, utf8(`${JSON.stringify(batch, undefined, 2)}\n`));
    return ports.say(`wrote ${options.safe}`);
  }
  if (options.keyFile === undefined) {
    throw new AppError("input/malformed", "--key-file, --dry-run or --safe says how to go on");
  }
  const key = fromHex((await readInputText(options.keyFile, ports)).trim(), "--key-file", 32);
  const account = privateKeyToAccount(`0x${toHex(key)}`);
  const chain = defineChain({
    id: chainId,
    name: `chain ${chainId}`,
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [] } },
  });
  const transport = transportOf(options, ports);
  const reader = createPublicClient({ chain, transport, pollingInterval: 500 });
  await reader.call({ account, to, data }); // says why before anything is paid for
  const hash = await createWalletClient({ account, chain, transport }).sendTransaction({
    to,
    data,
  });
  const receipt = await reader.waitForTransactionReceipt({ hash });
  if (receipt.status !== "success") throw new AppError("upstream/refused", `${hash} was reverted`);
  const facts = {
    transaction: hash,
    block: Number(receipt.blockNumber),
    gas: Number(receipt.gasUsed),
  };
  ports.print(
    options.json ? JSON.stringify(facts) : `${functionName}: ${hash} in block ${facts.block}`,
  );
}

async function show(
  kind: Kind,
  facts: readonly string[],
  options: ContractOptions,
  ports: CliPorts,
): Promise<void> {
  const address = addressOf(options.contract, "--contract");
  const client = createPublicClient({ transport: transportOf(options, ports) });
  const values = await Promise.all(
    facts.map((functionName) =>
      client.readContract({ address, abi: kind.abi, functionName } as never)
    ),
  );
  const entries = facts.map((name, i) => [name, values[i]] as const);
  ports.print(
    options.json
      ? JSON.stringify(Object.fromEntries(entries))
      : entries.map(([name, value]) => `${name.padEnd(20)} ${value}`).join("\n"),
  );
}

async function chainOf(options: ContractOptions, ports: CliPorts): Promise<number> {
  return await createPublicClient({ transport: transportOf(options, ports) }).getChainId();
}

function transportOf(options: ContractOptions, ports: CliPorts) {
  const url = options.rpc ?? ports.env["ETH_RPC_URL"];
  if (url === undefined) throw new AppError("input/malformed", "--rpc (or ETH_RPC_URL) is missing");
  let id = 0;
  return custom({
    request: async ({ method, params }: { method: string; params?: unknown }) => {
      const response = await ports.fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ jsonrpc: "2.0", id: ++id, method, params: params ?? [] }),
      });
      const { result, error } = await response.json() as { result?: unknown; error?: object };
      if (error !== undefined) throw Object.assign(new Error("The chain refused"), error);
      return result;
    },
  }, { retryCount: 0 });
}

function addressOf(text: string, option: string): Hex {
  if (!isAddress(text)) {
    throw new AppError("input/malformed", `${option} takes an address, not '${text}'`);
  }
  return getAddress(text);
}
