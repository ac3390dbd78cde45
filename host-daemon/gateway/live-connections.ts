/** Reads `show table <connections>`: live connections by key. */
export function parseConnectionTable(text: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const line of text.split("\n")) {
    const key = /\bkey=(\S+)/.exec(line)?.[1];
    const current = /\bconn_cur=(\d+)/.exec(line)?.[1];
    if (key !== undefined && current !== undefined) counts.set(key, Number(current));
  }
  return counts;
}

/**
 * Reads the CSV of `show stat`: live sessions of the servers in slots, by address. `addr` is written
 * for the `admin` level only.
 */
export function parseSlotSessions(csv: string): Map<string, number> {
  const [header = "", ...lines] = csv.split("\n");
  const columns = header.replace(/^# /, "").split(",");
  const at = (name: string) => columns.indexOf(name);
  const [backend, sessions, address] = [at("pxname"), at("scur"), at("addr")];
  const counts = new Map<string, number>();
  for (const line of lines) {
    const fields = line.split(",");
    if (!fields[backend]?.startsWith("slot-")) continue;
    const host = fields[address]?.split(":")[0];
    const current = Number(fields[sessions]);
    if (host && current > 0) counts.set(host, (counts.get(host) ?? 0) + current);
  }
  return counts;
}
