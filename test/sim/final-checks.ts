import { createHash } from 'node:crypto';
import { isTfsError, toTfsError } from '../../common/errors.ts';
import { slotFlagsOf } from '../../common/format/ops.ts';
import { opsDigest } from '../../common/format/ops-digest.ts';
import type { BlockId, ServerId, Slot } from '../../common/ids.ts';
import { BlockFlag, BlockState, NameFlag } from '../../common/wire/messages.ts';
import type { DataServer } from '../../dataserver/dataserver.ts';
import { keyOf } from '../kit/cluster-probe.ts';
import type { History, ReplicaAnswer } from '../kit/history.ts';
import {
  type CheckOptions,
  checkHistory,
  checkReplicas,
  type ViolationKind,
} from '../kit/history-checker.ts';
import { checkMount } from './check-mount.ts';
import { type HealedCluster, leaderOf, whyNotConverged } from './converged.ts';
import { checkLostBlocks, isDamagedAt, lossyBlocks, lostBlocks, whyNotSoundAlike } from './lost-blocks.ts';
import { type InvariantName, Violation } from './observed.ts';
import type { Observer } from './observer.ts';

const ALL = { offset: 0, length: 0xffff_ffff };

const INVARIANTS: Record<ViolationKind, InvariantName> = {
  lost: 'I2',
  stale: 'I12',
  phantom: 'I3',
  reused: 'I9',
  diverged: 'I5',
};

export interface EndOptions extends CheckOptions {
  readonly history: History;
  /** The clock of the history. */
  readonly now: () => number;
}

/**
 * What has to hold of a cluster that has converged, read from every replica past all clients: every name as its history
 * says; replicas alike to the last byte and operation; indexes, maps and accounts as the files are. The DataServers read
 * their disks for it: whoever simulates those lets time go on meanwhile.
 *
 * @throws Violation of the first thing that is wrong
 */
export async function checkEnd(
  cluster: HealedCluster,
  observer: Observer,
  options: EndOptions,
): Promise<void> {
  observer.step();
  report(checkHistory(options.history, options));
  await readThrough(cluster, observer);
  await checkLostBlocks(lostBlocks(leaderOf(cluster)!.map, cluster), cluster);
  for (let look = 1; ; look++) {
    const before = tablesOf(cluster);
    try {
      await checkAtRest(cluster, observer, options);
      return;
    } catch (error) {
      // What is purged or moved while it is looked at, one replica after the other, is not the same on all; it may also
      // have begun just before.
      if (!(error instanceof Violation) || look === LOOKS_AT_REST) throw error;
      for (let i = 0; i < 4; i++) await pause(cluster);
      if (before === tablesOf(cluster)) throw error;
    }
    await untilConverged(cluster);
  }
}

/** Changes whenever anything does on any server but appends. */
const tablesOf = ({ servers }: HealedCluster): string =>
  servers
    .map(({ live }) =>
      [...live!.store.entries()].map((e) => `${e.block}.${e.generation}.${e.seq}.${e.state}`),
    )
    .join(' ');

async function checkAtRest(cluster: HealedCluster, observer: Observer, options: EndOptions): Promise<void> {
  const { history, now } = options;
  observer.step();
  // What is purged meanwhile may have been read before.
  const purged = purgedOf(observer, history.names);
  await checkMaps(cluster);
  await checkReplicasAlike(cluster);
  const answers = await readAll(cluster, history.names);
  report(checkReplicas(history, answers, { ...options, atMs: now() }));
  checkPurged(observer, purged, answers);
  for (const server of cluster.servers) await checkMount(server, observer);
}

function report(found: ReturnType<typeof checkHistory>): void {
  const [first] = found;
  if (first === undefined) return;
  const more = found.length > 1 ? ` (and ${found.length - 1} more)` : '';
  throw new Violation(INVARIANTS[first.kind], { name: first.name }, `${first.kind}: ${first.why}${more}`);
}

/** What is repaired, or told to a NameServer, takes its time. */
const LOOKS = 60;
const LOOK_AGAIN_MS = 500;
/** Deleted names are purged as their windows end, one after the other, for as long as a window lasts. */
const LOOKS_AT_REST = 20;
/** Times that everything is read, until nothing more is found. */
const PASSES = 4;

const pause = ({ servers }: HealedCluster): Promise<void> =>
  servers[0]!.live!.options.clock.sleep(LOOK_AGAIN_MS);

/**
 * Reads all of every replica. Damage that was done on purpose, and that nobody has come across yet, is found by that, and
 * mended then; other damage there is none.
 */
async function readThrough(cluster: HealedCluster, observer: Observer): Promise<void> {
  for (let pass = 1; ; pass++) {
    let found: Violation | undefined;
    // What is left of a block and cannot be made whole from anything.
    const left = new Set(lostBlocks(leaderOf(cluster)!.map, cluster));
    const lossy = lossyBlocks(leaderOf(cluster)!.repairer.lostByBlock, cluster.servers);
    for (const block of lossy.keys()) await untilSoundAlike(block, cluster);
    for (const server of cluster.servers) {
      const { store } = server.live!;
      for (const block of store.blocks) {
        const isDamaged = isDamagedAt(server, block);
        const problems = await problemsOf(store, block);
        if (problems.length === 0 || left.has(block) || lossy.has(block)) continue;
        found = new Violation('I15', { server: server.id, block }, problems.join('; '));
        if (!isDamaged) throw found;
      }
    }
    if (found === undefined) return;
    if (pass === PASSES) throw found;
    await untilConverged(cluster);
    observer.step();
  }
}

/** What one of the servers can still read the others get, with the next attempt. */
async function untilSoundAlike(block: BlockId, cluster: HealedCluster): Promise<void> {
  for (let look = 1; ; look++) {
    const why = await whyNotSoundAlike(block, cluster.servers);
    if (why === undefined) return;
    if (look === LOOKS) throw why;
    await pause(cluster);
  }
}

/** Of one that is dropped meanwhile there are none. */
async function problemsOf(store: DataServer['store'], block: BlockId): Promise<readonly string[]> {
  try {
    return store.info(block) === undefined ? [] : (await store.verify(block)).problems;
  } catch (error) {
    if (isTfsError(error, 'DONT_KNOW')) return [];
    throw error;
  }
}

async function untilConverged(cluster: HealedCluster): Promise<void> {
  for (let look = 1; ; look++) {
    // Whoever found it tells the leader with its next heartbeat.
    for (let i = 0; i < 4; i++) await pause(cluster);
    const why = whyNotConverged(cluster);
    if (why === undefined) return;
    if (look === LOOKS)
      throw new Violation('convergence', {}, `what was found damaged is not mended: ${why}`);
  }
}

/** Each NameServer has of each DataServer exactly what that one holds, as soon as that had the time to say so. */
async function checkMaps(cluster: HealedCluster): Promise<void> {
  for (let look = 1; ; look++) {
    const why = whyMapsDiffer(cluster);
    if (why === undefined) return;
    if (look === LOOKS) throw why;
    await pause(cluster);
  }
}

function whyMapsDiffer({ nameservers, servers }: HealedCluster): Violation | undefined {
  for (const { id, live } of nameservers)
    for (const server of servers) {
      const { digest, blocks } = server.live!.store;
      if (live!.map.digestOf(server.id) === digest) continue;
      const unknown = blocks.filter((block) => !live!.map.has(block));
      return new Violation(
        'I15',
        { server: server.id },
        `NameServer ${id} has another table of it; unknown blocks: ${unknown.join(' ')}`,
      );
    }
  return undefined;
}

/** Sealed replicas have one digest, and all members of a block the same operations; each reads as it was sealed. */
async function checkReplicasAlike({ servers }: HealedCluster): Promise<void> {
  const seals = new Map<BlockId, string>();
  const states = new Map<BlockId, string>();
  for (const { id, live } of servers) {
    const { store } = live!;
    for (const block of store.blocks) {
      const where = { server: id, block };
      const { seal, state, generation, flags } = store.info(block)!;
      // At rest only where nothing is left to make it whole from, see lost-blocks.ts.
      if ((flags & BlockFlag.QUARANTINED) !== 0) continue;
      if (state === BlockState.SEALED) {
        const text = `generation ${generation}, ${seal!.length} bytes, ${seal!.digest.toString('hex', 0, 8)}`;
        const other = seals.get(block) ?? text;
        if (other !== text) throw new Violation('I5', where, `${text}; elsewhere ${other}`);
        seals.set(block, text);
      }
      const digest = opsDigest(await store.opsState(block)).toString('hex', 0, 8);
      const other = states.get(block) ?? digest;
      if (other !== digest)
        throw new Violation('I5', where, `its operations add up to ${digest}, elsewhere to ${other}`);
      states.set(block, digest);
    }
    if (store.refusedCuts > 0)
      throw new Violation(
        'I5',
        { server: id },
        `it was told ${store.refusedCuts} times to cut what was acknowledged`,
      );
  }
}

/** What every replica of the block of each name says of it. */
async function readAll({ servers }: HealedCluster, names: Iterable<string>): Promise<ReplicaAnswer[]> {
  const answers: ReplicaAnswer[] = [];
  for (const name of names) {
    const { block } = keyOf(name);
    for (const { id, live } of servers)
      if (live!.store.info(block) !== undefined) answers.push(await read(id, live!, name));
  }
  return answers;
}

async function read(server: ServerId, { store }: DataServer, name: string): Promise<ReplicaAnswer> {
  const answer = { name, server };
  const { block, fileId, cookie } = keyOf(name);
  try {
    const { payload, nameFlags } = await store.read(block, fileId, cookie, ALL, true);
    const sha1 = createHash('sha1').update(payload).digest('hex');
    const state = (nameFlags & NameFlag.DELETED) !== 0 ? 'deleted' : 'live';
    return { ...answer, state, hidden: (nameFlags & NameFlag.HIDDEN) !== 0, sha1 };
  } catch (error) {
    if (isTfsError(error, 'NOT_FOUND') || isTfsError(error, 'GONE')) return { ...answer, state: 'absent' };
    const { code, message } = toTfsError(error);
    return { ...answer, state: 'silent', why: `${code} ${message}` };
  }
}

/** Of these names, those that are purged for good. */
function purgedOf(observer: Observer, names: Iterable<string>): Set<string> {
  const purged = new Set<string>();
  for (const name of names) {
    const key = keyOf(name);
    const story = observer.stories.get(key.block);
    const slot = story?.slotOf(key);
    if (slot !== undefined && story!.ops.isPurged(slot)) purged.add(name);
  }
  return purged;
}

/** What was purged is there for nobody; and nothing that lives leads to it. */
function checkPurged(
  observer: Observer,
  purged: ReadonlySet<string>,
  answers: readonly ReplicaAnswer[],
): void {
  for (const { name, server, state } of answers) {
    if (state === 'absent' || state === 'silent' || !purged.has(name)) continue;
    throw new Violation('I10', { server, block: keyOf(name).block, name }, `it was purged, and is ${state}`);
  }
  for (const [server, { logs }] of observer.mounts)
    for (const [block, { state }] of logs) {
      const { aliases } = state;
      for (let i = 0; i < (aliases?.count ?? 0); i++) {
        const isPurged = (slotFlagsOf(state, aliases!.targetAt(i) as Slot) & NameFlag.PURGED) !== 0;
        if (isPurged && (aliases!.flagsAt(i) & NameFlag.DELETED) === 0)
          throw new Violation(
            'I13',
            { server, block },
            `an alias that lives leads to slot ${aliases!.targetAt(i)}, which is purged`,
          );
      }
    }
}
