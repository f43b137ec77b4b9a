/** A table for people: titles, then rows, each column as wide as it has to be. */
export function columns(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  return [line(titles), ...rows.map(line)].join('\n');
}

/** 12.3 GiB, 640 MiB */
export function formatBytes(bytes: number): string {
  const mib = bytes / 2 ** 20;
  if (mib < 1000) return `${Math.round(mib)} MiB`;
  return mib < 1000 * 1024 ? `${(mib / 1024).toFixed(1)} GiB` : `${(mib / 1024 ** 2).toFixed(1)} TiB`;
}

/** 4 s, 12 min, 3 h, 8 d */
export function formatAge(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}
