import type { SoakResult } from './soak.ts';
import type { Effort } from './tasks.ts';

/** @returns lines for a person: what was looked at, and how each violation is seen again */
export function report(result: SoakResult, { seed, faults }: Effort): string {
  const { counts, sequences, sequencesWanted, random, findings, seconds, isWhole } = result;
  const { states, again, exhaustive, repeated, killed } = counts;
  const lines = [
    `states looked at      ${states}, ${Math.round(states / seconds)} in a second, in ${Math.round(seconds)} s`,
    `  all of their step   ${exhaustive}`,
    `  samples             ${states - exhaustive - killed}`,
    `  killed processes    ${killed}`,
    `  second crashes      ${again} (in what followed a crash; counted above too)`,
    `the same as another   ${repeated}, not looked at again`,
    `sequences             ${sequences} of ${sequencesWanted}`,
    `walks and campaigns   ${random}`,
    `violations            ${findings.length}`,
  ];
  const planted = faults.map((fault) => ` --plant ${fault}`).join('');
  for (const { only, message } of findings)
    lines.push('', message, `  npm run soak:crash -- --seed ${seed}${planted} --only '${only}'`);
  if (!isWhole) lines.push('', 'it was stopped early: not everything was looked at');
  return lines.join('\n');
}
