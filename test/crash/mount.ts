import type { Incarnation } from '../../common/ids.ts';
import { OLD_GENERATION_MS } from '../../common/limits.ts';
import { silentLog } from '../../common/log.ts';
import type { BlockStore, Faults } from '../../dataserver/block/store.ts';
import { nextIncarnation, readIncarnation } from '../../dataserver/mount.ts';
import { Nonces } from '../../dataserver/nonces.ts';
import { PromiseKeeper } from '../../dataserver/promise.ts';
import { openStore, RushingClock } from '../kit/block-world.ts';
import type { RecordingDisk } from '../kit/recording-disk.ts';

/** Small, so that a full disk and a long log are frequent. */
const LIMITS = { opsReserveBytes: 4096, opsLogBytes: 700, dropLogEntries: 2, trashMs: OLD_GENERATION_MS };

/** Everything that a DataServer keeps on its disk, opened in the order of `DataServer.open`. */
export class Mount {
  readonly disk: RecordingDisk;
  readonly clock: RushingClock;
  readonly store: BlockStore;
  readonly promise: PromiseKeeper;
  readonly nonces: Nonces;
  /** Of this life; where it was only looked at, of the last. */
  readonly incarnation: Incarnation;
  /** Opened to look at it, and for nothing else. */
  readonly isShown: boolean;

  private constructor(parts: {
    disk: RecordingDisk;
    clock: RushingClock;
    store: BlockStore;
    promise: PromiseKeeper;
    nonces: Nonces;
    incarnation: Incarnation;
    isShown: boolean;
  }) {
    this.disk = parts.disk;
    this.clock = parts.clock;
    this.store = parts.store;
    this.promise = parts.promise;
    this.nonces = parts.nonces;
    this.incarnation = parts.incarnation;
    this.isShown = parts.isShown;
    this.promise.makeRoom = () => this.store.releaseReserve();
  }

  /** @param isWhole a new life, with an incarnation of its own; else only to look at it */
  static async open(disk: RecordingDisk, faults: Faults, isWhole = true, clock = new RushingClock()) {
    const incarnation = isWhole
      ? await nextIncarnation(disk)
      : ((await readIncarnation(disk)) as Incarnation);
    const promise = await PromiseKeeper.open(disk, faults);
    const nonces = await Nonces.open(disk, silentLog);
    const store = await openStore(disk, { clock, faults, limits: LIMITS });
    return new Mount({ disk, clock, store, promise, nonces, incarnation, isShown: !isWhole });
  }

  close(): Promise<void> {
    return this.store.close();
  }
}
