import type { BlockId } from '../../common/ids.ts';
import { SCRUB_BYTES_PER_SECOND_DEFAULT, SCRUB_FIRST_MS } from '../../common/limits.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import { ScrubLedger } from '../../dataserver/scrub/ledger.ts';
import { ReadClock } from '../../dataserver/scrub/read-times.ts';
import { Scrubber } from '../../dataserver/scrub/scrubber.ts';
import { CONFIGURATION, openStore, put, superblockOf, Writer } from './block-world.ts';
import { captureLog } from './capture-log.ts';
import { ManualClock } from './manual-clock.ts';
import type { MemoryKv } from './memory-kv.ts';
import { MemoryKvMedium } from './memory-kv.ts';
import { RecordingDisk } from './recording-disk.ts';
import { SeededRandom } from './seeded-random.ts';
import type { TestContext } from './suite.ts';

const WEEK_MS = 7 * 24 * 3600 * 1000;
const FIRST_BLOCK = 65_537;
const STEP_MS = 50;

/** A store with sealed blocks, a clock that a test moves, and the scrub of it. */
export class ScrubWorld {
  readonly clock = new ManualClock();
  readonly disk = new RecordingDisk();
  readonly log = captureLog();
  readonly blocks: BlockId[] = [];
  readonly reads = new ReadClock(this.clock);
  store!: BlockStore;
  ledger!: ScrubLedger;
  scrubber!: Scrubber;
  readonly #medium = new MemoryKvMedium();
  #kv!: MemoryKv;

  /** @param payloads of each block: so many of so many bytes */
  static async open(
    t: TestContext,
    blocks: number,
    payloads: { count: number; bytes: number },
  ): Promise<ScrubWorld> {
    const world = new ScrubWorld();
    world.store = await openStore(world.disk, { clock: world.clock });
    for (let i = 0; i < blocks; i++) await world.#seal(FIRST_BLOCK + i, payloads);
    await world.#start();
    t.defer(async () => {
      await world.scrubber.close();
      await world.store.close();
    });
    return world;
  }

  path(block: BlockId): string {
    return `blocks/${block}.0.blk`;
  }

  flip(block: BlockId, offset: number): void {
    this.disk.corrupt(this.path(block), (bytes) => {
      bytes[offset]! ^= 0x10;
    });
  }

  /** Moves the clock until something is so. @returns how long that took */
  async until(isSo: () => boolean, msMax = WEEK_MS): Promise<number> {
    const startedAt = this.clock.monotonic();
    for (let spent = 0; ; spent += STEP_MS) {
      for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
      if (isSo()) return this.clock.monotonic() - startedAt;
      if (spent > msMax) throw new Error(`not within ${msMax} ms: ${JSON.stringify(this.scrubber.figures)}`);
      this.clock.advance(STEP_MS);
    }
  }

  pass(ms: number): Promise<number> {
    const untilMs = this.clock.monotonic() + ms;
    return this.until(() => this.clock.monotonic() >= untilMs);
  }

  /** Past the time for which a server that has just started leaves its disk alone. */
  async begun(): Promise<void> {
    this.clock.advance(SCRUB_FIRST_MS);
    await this.until(() => this.ledger.pass !== undefined);
  }

  get isOver(): boolean {
    return this.ledger.pass?.endedAtMs !== undefined;
  }

  /** A new process: what is in memory is gone. The store goes on, to save time. */
  async restart(): Promise<void> {
    await this.scrubber.close();
    await this.#kv.close();
    await this.#start();
  }

  async #start(): Promise<void> {
    const { store, clock, log, reads } = this;
    this.#kv = await this.#medium.open();
    this.ledger = await ScrubLedger.open(this.#kv, log, (block) => store.info(block) !== undefined);
    this.scrubber = new Scrubber({
      store,
      ledger: this.ledger,
      reads,
      clock,
      log,
      passMs: WEEK_MS,
      bytesPerSecond: SCRUB_BYTES_PER_SECOND_DEFAULT,
    });
    this.scrubber.start();
  }

  async #seal(id: number, { count, bytes }: { count: number; bytes: number }): Promise<void> {
    const { store } = this;
    const random = new SeededRandom(id);
    const writer = new Writer(superblockOf(id, 7, 'a5', 2 * count * bytes + 65_536), random);
    const { block } = writer.superblock;
    await store.create(writer.superblock, CONFIGURATION);
    for (let i = 0; i < count; i++) await put(store, writer, [random.bytes(bytes)]);
    const { validLength: length, slots, digest } = await store.fence(block, CONFIGURATION.version.epoch);
    await store.seal(block, { length, slots, digest, epoch: CONFIGURATION.version.epoch });
    this.blocks.push(block);
  }
}
