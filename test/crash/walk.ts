import type { CrashExplorer } from '../kit/crash-explorer.ts';
import type { Violation } from '../kit/crash-model.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { ALPHABET, LETTERS, type LetterName } from './alphabet.ts';
import type { Mount } from './mount.ts';
import type { MountModel } from './mount-model.ts';
import {
  type CrashOptions,
  type CrashResult,
  crashHere,
  explorerOf,
  found,
  quiet,
  watch,
} from './sequence.ts';
import { STARTS, type Starter } from './start.ts';
import { isRefusal, type World } from './world.ts';

const LETTERS_IN_A_WALK = 14;

/** What two letters at the same time have to differ in; those of `alone` take no other. */
type Group = 'records' | 'files' | 'names' | 'space' | 'promise' | 'learn' | 'nonce' | 'alone';

const GROUPS: Record<LetterName, Group> = {
  put: 'records',
  'put-member': 'records',
  'put-large': 'records',
  fence: 'records',
  seal: 'records',
  'seal-short': 'records',
  reseal: 'records',
  complete: 'records',
  prepare: 'records',
  compact: 'records',
  drop: 'files',
  receive: 'files',
  repair: 'files',
  delete: 'names',
  undelete: 'names',
  hide: 'names',
  alias: 'names',
  burst: 'names',
  purge: 'names',
  configure: 'names',
  create: 'space',
  spare: 'space',
  sweep: 'space',
  leftovers: 'space',
  promise: 'promise',
  learn: 'learn',
  nonce: 'nonce',
  restart: 'alone',
  power: 'alone',
  'delete-full': 'alone',
  'drop-full': 'alone',
  'promise-full': 'alone',
};

/** Of what happens at the same time these do not wait for each other in any order that a test could know. */
function mayRunTogether(a: LetterName, b: LetterName): boolean {
  const groups = [GROUPS[a], GROUPS[b]];
  if (groups.includes('alone')) return false;
  if (groups[0] === groups[1]) return groups[0] === 'names' || (a.startsWith('put') && b === 'fence');
  // What is copied elsewhere must not change meanwhile: which half of it was copied nobody could say.
  return !groups.includes('files') || !(groups.includes('names') || groups.includes('records'));
}

/** A longer sequence, drawn from the seed, in which letters run at the same time, crashed at all of its steps. */
export async function crashWalk(starter: Starter, options: CrashOptions): Promise<CrashResult> {
  const random = new SeededRandom(options.seed * 104_729);
  const world = await starter.world(random.pick(STARTS), new SeededRandom(options.seed));
  const explorer = explorerOf(world, options);
  let failure: Violation | undefined;
  watch(world, explorer);
  try {
    await stroll(world, random, explorer);
    await quiet();
    world.disk.onStep = undefined;
    await world.mount.close();
  } catch (error) {
    failure = found(error);
  }
  return { counts: explorer.counts, violation: explorer.violation ?? failure };
}

async function stroll(
  world: World,
  random: SeededRandom,
  explorer: CrashExplorer<Mount, MountModel>,
): Promise<void> {
  for (let i = 0; i < LETTERS_IN_A_WALK && explorer.violation === undefined; i++) {
    const first = random.pick(LETTERS);
    const second = random.pick(LETTERS);
    const together = random.below(3) > 0 && mayRunTogether(first, second) ? [first, second] : [first];
    // Sometimes the next one begins while what follows an acknowledgement is still going on.
    if (GROUPS[first] === 'alone' || random.below(2) === 0) await quiet();
    await Promise.all(together.map((name) => run(name, world)));
    await crashHere(world.disk);
  }
}

/** What runs at the same time may be in each other's way: then one of them is told so. */
async function run(name: LetterName, world: World): Promise<void> {
  try {
    await ALPHABET[name](world);
  } catch (error) {
    if (!isRefusal(error)) throw error;
  }
}
