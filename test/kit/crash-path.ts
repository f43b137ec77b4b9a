/** One crash: after which change of the disk, and what of what was not durable was kept. */
export interface CrashAt {
  /** Counted from 0 in what is watched. */
  readonly step: number;
  /** Numbers of the units that were kept; `kill` when the process ended and the kernel kept all of it. */
  readonly kept: readonly number[] | 'kill';
}

/** Crashes one inside the other: the second in what followed the first. */
export type CrashPath = readonly CrashAt[];

/** @returns such as `7:0-3,9/2:` — after step 7 units 0 to 3 and 9 are kept; in the recovery, after step 2, none */
export const formatPath = (path: CrashPath): string =>
  path.map(({ step, kept }) => `${step}:${kept === 'kill' ? kept : ranges(kept)}`).join('/');

/** @throws RangeError for what {@link formatPath} does not make */
export function parsePath(text: string): CrashPath {
  return text.split('/').map((part) => {
    const match = /^(\d+):(kill|[\d,-]*)$/.exec(part);
    if (match === null) throw new RangeError(`"${part}" is no crash: such as 7:0-3,9`);
    const step = Number(match[1]);
    return { step, kept: match[2] === 'kill' ? 'kill' : numbersOf(match[2]!) };
  });
}

function ranges(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length; i++) {
    const first = numbers[i]!;
    while (numbers[i + 1] === numbers[i]! + 1) i++;
    parts.push(first === numbers[i] ? `${first}` : `${first}-${numbers[i]}`);
  }
  return parts.join(',');
}

function numbersOf(text: string): number[] {
  if (text === '') return [];
  return text.split(',').flatMap((part) => {
    const match = /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(part);
    if (match === null) throw new RangeError(`"${part}" is no range of units: such as 0-3`);
    const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
  });
}
