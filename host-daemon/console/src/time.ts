/** How long ago a Unix time in milliseconds was, in its two largest units. */
export function since(atMs: number): string {
  let seconds = Math.max(0, Math.floor((Date.now() - atMs) / 1000));
  const parts: string[] = [];
  for (const [size, unit] of [[86_400, "d"], [3600, "h"], [60, "m"], [1, "s"]] as const) {
    const count = Math.floor(seconds / size);
    seconds -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  return parts.slice(0, 2).join(" ") || "0s";
}
