import { isTfsError } from '../../common/errors.ts';
import type { Faults } from '../../dataserver/block/store.ts';
import { settleOps } from '../kit/crash-campaign.ts';
import { type CrashCounts, CrashExplorer, type CrashSubject } from '../kit/crash-explorer.ts';
import { demand, type ModelBlock, Violation } from '../kit/crash-model.ts';
import type { CrashPath } from '../kit/crash-path.ts';
import type { RecordingDisk } from '../kit/recording-disk.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { ALPHABET, type LetterName } from './alphabet.ts';
import { finish } from './letters-files.ts';
import { Mount } from './mount.ts';
import { checkMount, copyOf, keyOfMount, type MountModel } from './mount-model.ts';
import type { Start, Starter } from './start.ts';
import { World } from './world.ts';

export interface Sequence {
  readonly start: Start;
  readonly letters: readonly LetterName[];
}

export interface CrashOptions {
  readonly seed: number;
  readonly statesPerStep: number;
  readonly againEvery: number;
  readonly killEvery: number;
  readonly faults: Faults;
  readonly only?: CrashPath;
  /** A planted bug, see RecordingDisk. */
  readonly ignoresSync?: (path: string) => boolean;
}

export interface CrashResult {
  readonly counts: CrashCounts;
  readonly violation: Violation | undefined;
}

/** What a mount goes on with after a crash, once what was interrupted is done. */
const AFTERWARDS: readonly LetterName[] = ['delete', 'seal', 'compact', 'promise', 'receive'];

/**
 * Runs the letters one after the other and crashes the last of them at each of its steps: the steps of those before are
 * crashed by the sequences that end with them.
 */
export async function crashSequence(
  starter: Starter,
  { start, letters }: Sequence,
  options: CrashOptions,
): Promise<CrashResult> {
  const world = await starter.world(start, new SeededRandom(options.seed));
  const explorer = explorerOf(world, options);
  world.disk.ignoresSync = options.ignoresSync;
  let failure: Violation | undefined;
  try {
    for (const [i, name] of letters.entries()) {
      if (i === letters.length - 1) watch(world, explorer);
      await ALPHABET[name](world);
      await quiet();
    }
    await crashHere(world.disk);
    world.disk.onStep = undefined;
    await world.mount.close();
  } catch (error) {
    failure = found(error);
  }
  return { counts: explorer.counts, violation: explorer.violation ?? failure };
}

export function watch(world: World, explorer: CrashExplorer<Mount, MountModel>): void {
  world.onDisk = (disk) => {
    if (disk !== world.disk) explorer.watch(disk, world.model);
  };
  explorer.watch(world.disk, world.model);
}

/** With the acknowledgement of what was done last, after which nothing changes the disk: that has to be found again. */
export const crashHere = (disk: RecordingDisk): Promise<void> => disk.step();

/** What goes on behind an acknowledgement is over: there is no timer in it. */
export const quiet = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A promise that was broken without any crash, or an operation that failed. */
export function found(error: unknown): Violation {
  if (error instanceof Violation) return error;
  return new Violation(`an operation failed: ${error instanceof Error ? error.stack : String(error)}`);
}

/** Somebody does, sooner or later. */
function makeRoom(disk: RecordingDisk): void {
  disk.capacityBytes = Number.MAX_SAFE_INTEGER;
}

/** A full disk is no reason not to start as long as there is space that is kept for such a day. */
async function openMount(disk: RecordingDisk, faults: Faults, isWhole: boolean): Promise<Mount> {
  try {
    return await Mount.open(disk, faults, isWhole);
  } catch (error) {
    if (!isTfsError(error, 'DISK_FULL')) throw error;
    const reserve = await disk.stat('blocks/ops.reserve');
    demand(
      (reserve?.size ?? 0) === 0,
      'a full disk keeps a mount from starting, and there is space in reserve',
    );
    makeRoom(disk);
    return Mount.open(disk, faults, isWhole);
  }
}

export function explorerOf(world: World, options: CrashOptions): CrashExplorer<Mount, MountModel> {
  const { faults, elsewhere } = world;
  const good = new Map<string, ModelBlock>();
  const subject: CrashSubject<Mount, MountModel> = {
    open: (disk, isWhole) => openMount(disk, faults, isWhole),
    snapshot: copyOf,
    key: keyOfMount,
    check: (mount, model, cause) => checkMount(mount, model, cause, mount.isShown ? good : undefined),
    settle: ({ store }, { blocks }) => settleOps(store, blocks),
    goOn: async (mount, model) => {
      makeRoom(mount.disk);
      const after = new World({ mount, model, random: new SeededRandom(options.seed), faults, elsewhere });
      after.kept = world.kept;
      await finish(after);
      for (const name of AFTERWARDS) await ALPHABET[name](after);
      await quiet();
    },
  };
  const { statesPerStep, againEvery, killEvery, only, seed } = options;
  return new CrashExplorer({
    subject,
    random: new SeededRandom(seed * 7919),
    statesPerStep,
    againEvery,
    killEvery,
    ...(only === undefined ? {} : { only }),
  });
}
