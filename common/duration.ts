const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 24 * 3600, w: 7 * 24 * 3600 };

/** @returns seconds of "90", "90s", "15m", "2h", "7d" or "4w"; undefined for what is none of these */
export function secondsOf(text: string): number | undefined {
  const found = /^(\d{1,9})([smhdw]?)$/.exec(text);
  if (found === null) return undefined;
  const [, count = '', unit = ''] = found;
  return Number(count) * UNITS[unit === '' ? 's' : unit]!;
}
