/** Whole seconds as `1day 2h 3m 4s`, the form clients of the reference daemon show. */
export function formatDuration(ms: number): string {
  let seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds === 0) return "0s";
  const parts: string[] = [];
  // The units of the reference's formatter: a year is 365.25 days, a month a twelfth of it.
  const units: [number, string, boolean][] = [
    [31_557_600, "year", true],
    [2_630_016, "month", true],
    [86_400, "day", true],
    [3600, "h", false],
    [60, "m", false],
    [1, "s", false],
  ];
  for (const [size, unit, plural] of units) {
    const count = Math.floor(seconds / size);
    if (count === 0) continue;
    seconds -= count * size;
    parts.push(`${count}${unit}${plural && count > 1 ? "s" : ""}`);
  }
  return parts.join(" ");
}
