import type { BlockId } from '../../common/ids.ts';
import { OVERDUE_BLOCKS_MAX, OVERDUE_PASS_PERCENT } from '../../common/limits.ts';
import type { Clock } from '../../common/seams/clock.ts';
import { tunable } from '../../common/tunables.ts';
import { isScrubbed, lastReadAtMs, type ReadAt, type Replica } from './pass.ts';

/** A replica that was not read for far too long. */
export interface Overdue {
  readonly block: BlockId;
  readonly ageMs: number;
}

/** Those that were read longest ago of what is overdue, the oldest first; none where passes only begin when somebody asks. */
export function overdueIn(
  replicas: Iterable<Replica>,
  readAtMs: ReadAt,
  nowMs: number,
  passMs: number,
): Overdue[] {
  if (passMs === 0) return [];
  const overdue: Overdue[] = [];
  for (const replica of replicas) {
    if (!isScrubbed(replica)) continue;
    const ageMs = nowMs - lastReadAtMs(replica, readAtMs, nowMs);
    if (ageMs * 100 > passMs * OVERDUE_PASS_PERCENT) overdue.push({ block: replica.block, ageMs });
  }
  return overdue.sort((a, b) => b.ageMs - a.ageMs || a.block - b.block).slice(0, OVERDUE_BLOCKS_MAX);
}

export interface OverdueListDeps {
  readonly clock: Clock;
  readonly passMs: number;
  readonly replicas: () => Iterable<Replica>;
  readonly readAtMs: ReadAt;
}

/** What is overdue, for heartbeats: all replicas are looked at now and then, and what was read since is left out. */
export class OverdueList {
  readonly #deps: OverdueListDeps;
  #found: readonly Overdue[] = [];
  #lookedAtMs = Number.NEGATIVE_INFINITY;

  constructor(deps: OverdueListDeps) {
    this.#deps = deps;
  }

  get all(): Overdue[] {
    const { clock, passMs, replicas, readAtMs } = this.#deps;
    if (passMs === 0) return [];
    const nowMs = clock.monotonic();
    if (nowMs - this.#lookedAtMs >= tunable.overdueLookMs) {
      this.#lookedAtMs = nowMs;
      this.#found = overdueIn(replicas(), readAtMs, clock.now(), passMs);
    }
    const readSinceMs = clock.now() - (passMs * OVERDUE_PASS_PERCENT) / 100;
    return this.#found.filter(({ block }) => (readAtMs(block) ?? Number.NEGATIVE_INFINITY) < readSinceMs);
  }
}
