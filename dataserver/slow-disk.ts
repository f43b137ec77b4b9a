import { toTfsError } from '../common/errors.ts';
import type { ServerId } from '../common/ids.ts';
import { SLOW_DISK_LEAVES_MS } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import { BlockState } from '../common/wire/messages.ts';
import type { BlockStore } from './block/store.ts';
import type { DiskProbe } from './probe.ts';
import type { PromiseKeeper } from './promise.ts';
import type { SessionPool } from './session-pool.ts';

const LOOK_EVERY_MS = 500;

export interface SlowDiskDeps {
  readonly server: ServerId;
  readonly clock: Clock;
  readonly log: Log;
  readonly store: BlockStore;
  readonly probe: Pick<DiskProbe, 'health'>;
  readonly pool: Pick<SessionPool, 'endAll'>;
  readonly promise: Pick<PromiseKeeper, 'reign'>;
}

/**
 * A slow disk is in write sets that were chosen before it was slow, and every upload to them waits for it. It leaves
 * them: it ends its own sessions, and takes no more appends to the others. By then the leader knows that it is slow, and
 * the blocks that are opened instead are placed elsewhere, if there is anything else.
 */
export class SlowDisk {
  readonly #deps: SlowDiskDeps;
  #timer: Timer | undefined;
  #slowSince: number | undefined;
  #leftAt = Number.NEGATIVE_INFINITY;

  constructor(deps: SlowDiskDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#timer = this.#deps.clock.every(LOOK_EVERY_MS, () => this.#look());
  }

  close(): void {
    this.#timer?.cancel();
  }

  #look(): void {
    const { clock, probe } = this.#deps;
    const { slow, healthy } = probe.health;
    const now = clock.monotonic();
    // A disk that hangs could not even fence: its sessions end for want of an answer.
    if (!slow || !healthy) {
      this.#slowSince = undefined;
      return;
    }
    this.#slowSince ??= now;
    if (now - this.#slowSince < SLOW_DISK_LEAVES_MS || now - this.#leftAt < tunable.slowDiskAgainMs) return;
    this.#leftAt = now;
    this.#leave();
  }

  #leave(): void {
    const { server, store, pool, promise, log } = this.#deps;
    pool.endAll('io');
    let left = 0;
    for (const block of store.blocks) {
      const info = store.info(block);
      if (info?.state !== BlockState.OPEN || info.opsPrimary === server) continue;
      left++;
      store.fence(block, promise.reign.epoch).catch((error: unknown) => {
        log.warn({ block, reason: toTfsError(error).message }, 'a write set could not be left');
      });
    }
    log.warn({ blocks: left }, 'the disk is slow: it leaves the write sets it is in');
  }
}
