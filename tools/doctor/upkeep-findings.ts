import { formatAge, formatBytes } from '../cli/columns.ts';
import type { Facts } from './facts.ts';
import { type Finding, plural } from './finding.ts';

/** A pass may be late by one more: the machine may have been off for a while. */
const PASSES_LATE = 2;
/** Files that are being made, or that a crash left and the next start removes, are younger. */
const ORPHAN_OLD_MS = 7 * 24 * 3600 * 1000;

/** What nobody notices from day to day: disks that are not read through in time, files that nobody needs. */
export function upkeepFindings(facts: Facts): Finding[] {
  return [...lateScrubs(facts), ...orphans(facts)];
}

function lateScrubs({ figures, scrubPassMs, nowMs }: Facts): Finding[] {
  if (scrubPassMs === 0) return [];
  return figures.flatMap(({ id, scrub }) => {
    // Before the first is over, the one under way says since when there is something to read.
    const since = scrub?.last ?? scrub?.pass;
    if (since === undefined) return [];
    const ageMs = nowMs - since.startedAtMs;
    if (ageMs < PASSES_LATE * scrubPassMs) return [];
    const rests = scrub?.restsForReads === true ? ': it rests for reads of pictures' : '';
    return [
      {
        code: 'scrub-late',
        level: 'degraded' as const,
        count: 1,
        what: `DataServer ${id} has not read its copies through for ${formatAge(ageMs)}: what rots there is not noticed`,
        why: `a pass is to be over in ${formatAge(scrubPassMs)} (dataserver.scrubPassMs)${rests}`,
        itself: 'it goes on, as fast as reads of pictures and dataserver.scrubBytesPerSecond let it',
        todo: 'npx tfs scrub --full-speed, at a quiet hour; if it is always late, allow it more (scrubBytesPerSecond, scrubPassMs)',
      },
    ];
  });
}

function orphans({ figures }: Facts): Finding[] {
  return figures.flatMap(({ id, use }) => {
    if (use === undefined || use.orphans.files === 0 || use.orphans.oldestMs < ORPHAN_OLD_MS) return [];
    const { files, bytes, oldestMs } = use.orphans;
    return [
      {
        code: 'orphan-files',
        level: 'note' as const,
        count: files,
        what: `${plural(files, 'file', 'files')} on DataServer ${id} that no block needs, ${formatBytes(bytes)}, the oldest ${formatAge(oldestMs)} old`,
        why: 'a seal has set records aside, or somebody else has put files there',
        itself: 'nothing: what was set aside is kept for people to look at',
        todo: 'look at what is in lost+found and blocks of its mount (docs/operations.md, Space), and remove what nobody wants',
      },
    ];
  });
}
