import type { ScrubFigures, ScrubPass } from '../../common/wire/scrub.ts';
import { formatAge } from './columns.ts';

const MB = 1e6;

/** How the scrub of one DataServer stands, for people. @param nowMs wall clock */
export function scrubLine(figures: ScrubFigures, nowMs: number): string {
  const { pass, last, suspects } = figures;
  if (pass === undefined) return 'not yet scrubbed';
  const parts = [pass.endedAtMs === undefined ? underWay(figures, pass, nowMs) : ended(pass, nowMs)];
  if (pass.damaged > 0) parts.push(`${pass.damaged} replicas were damaged, in ${pass.problems} places`);
  if (suspects > 0) parts.push(`${suspects} are now`);
  if (pass.endedAtMs === undefined)
    parts.push(last === undefined ? 'no complete pass before' : `the last one: ${ended(last, nowMs)}`);
  return parts.join('; ');
}

function underWay(
  figures: ScrubFigures,
  { startedAtMs, replicas, bytes, fullSpeed }: ScrubPass,
  nowMs: number,
) {
  const { leftReplicas, leftBytes, bytesPerSecond, restsForReads } = figures;
  const total = bytes + leftBytes;
  const percent = total === 0 ? 100 : Math.floor((bytes * 100) / total);
  const rests = restsForReads ? ', rests for reads' : '';
  return (
    `${percent} % of a pass${fullSpeed ? ' at full speed' : ''} begun ${formatAge(nowMs - startedAtMs)} ago: ` +
    `${replicas} of ${replicas + leftReplicas} replicas, ${(bytesPerSecond / MB).toFixed(1)} MB/s${rests}`
  );
}

function ended({ startedAtMs, endedAtMs = startedAtMs, replicas, bytes }: ScrubPass, nowMs: number): string {
  const seconds = Math.max(0.001, (endedAtMs - startedAtMs) / 1000);
  return (
    `${replicas} replicas read through in ${formatAge(endedAtMs - startedAtMs)} ` +
    `(${(bytes / MB / seconds).toFixed(1)} MB/s), ${formatAge(nowMs - endedAtMs)} ago`
  );
}
