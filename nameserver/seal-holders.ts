import { isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import { mark } from '../common/marks.ts';
import type { Member, Reign, Seal, SealReply } from '../common/wire/control.ts';
import type { BlockMap } from './block-map.ts';
import type { Commands } from './commands.ts';
import type { Asked, SealOrder } from './seal-decision.ts';

export interface SealRound {
  readonly map: BlockMap;
  readonly commands: Commands;
  readonly block: BlockId;
  readonly decision: SealOrder;
  readonly reign: Reign;
  readonly asked: readonly Asked[];
  /** Where those are that answered. */
  readonly members: ReadonlyMap<ServerId, Member>;
}

export interface SealResult {
  /** Records that are lost on every replica. */
  readonly lost: number;
  /** Holders whose disk takes no writes: the others are sealed without them. */
  readonly unable: readonly ServerId[];
}

/**
 * Seals every holder as decided, and, when all have the same, tells them so.
 *
 * @throws TfsError of the first that failed, after all were tried; READ_ONLY where none of their disks takes writes
 */
export async function sealHolders(round: SealRound): Promise<SealResult> {
  const { map, block, decision, reign } = round;
  const { sealed, length, slots, epoch, complete, mayLose, mayLoseUnread, digest } = decision;
  const holders = decision.holders.map((server) => round.members.get(server)!);
  const order: Seal = {
    ...{ block, reign, length, slots, epoch },
    ...{ complete, mayLose, mayLoseUnread },
    sources: holders,
  };
  if (digest !== undefined) Object.assign(order, { digest, lost: decision.lost });
  const rest = holders.filter(({ id }) => !sealed.includes(id));
  const unable = new Map<ServerId, TfsError>();
  /** @returns undefined where its disk takes no writes */
  const trySeal = async (member: Member): Promise<SealReply | undefined> => {
    try {
      const reply = await sealOne(round, member, order);
      map.sealed(block, member.id, length);
      return reply;
    } catch (error) {
      if (!isTfsError(error, 'READ_ONLY')) throw error;
      unable.set(member.id, error);
      return undefined;
    }
  };
  let lost = 0;
  // The best copy finds out the digest that the others must have.
  while (order.digest === undefined && rest.length > 0) {
    const reply = await trySeal(rest.shift()!);
    if (reply === undefined) continue;
    lost = reply.lost ?? 0;
    Object.assign(order, { digest: reply.digest, lost });
  }
  for (const id of sealed) map.sealed(block, id, length);
  await all(rest, ({ id }) => `SEAL of server ${id}`, trySeal);
  const able = holders.filter(({ id }) => !unable.has(id));
  const [failure] = unable.values();
  if (able.length === 0 && failure !== undefined) throw failure;
  if (unable.size > 0) mark('seal-without-read-only');
  if (isComplete(round, able)) await tellComplete(round, able, order);
  return { lost, unable: [...unable.keys()] };
}

/**
 * On every member of the write set, or on every member of the configuration, which lists exactly those that have it.
 * An empty block has nothing that anyone could rely upon.
 */
function isComplete({ map, block, decision, asked }: SealRound, able: readonly Member[]): boolean {
  if (decision.slots === 0) return false;
  const sealed = new Set(able.map(({ id }) => id));
  const writeSet = new Set(asked.flatMap(({ reply }) => reply?.members ?? []));
  const hold = (servers: Iterable<ServerId>): boolean => [...servers].every((server) => sealed.has(server));
  if (hold(writeSet)) return true;
  const members = map.facts(block)?.replicas.filter(({ member }) => member) ?? [];
  return (
    members.length > 0 &&
    members.every(({ confirmed }) => confirmed) &&
    hold(members.map(({ server }) => server))
  );
}

/**
 * The sequencer of the block's operations is told last: it alone hands out names on the strength of it, and by then
 * every other member durably knows not to give the SEAL up for another.
 */
async function tellComplete(round: SealRound, holders: readonly Member[], order: Seal): Promise<void> {
  const { map, block, asked } = round;
  const knows = new Set(
    asked
      .filter(({ reply }) => reply?.seal?.complete === true && reply.seal.digest === order.digest)
      .map(({ server }) => server),
  );
  const complete: Seal = { ...order, complete: true };
  const sequencer = map.facts(block)?.opsPrimary;
  const tell = (members: readonly Member[]) =>
    all(
      members.filter(({ id }) => !knows.has(id)),
      ({ id }) => `word of a complete seal to server ${id}`,
      (member) => sealOne(round, member, complete),
    );
  await tell(holders.filter(({ id }) => id !== sequencer));
  await tell(holders.filter(({ id }) => id === sequencer));
}

async function sealOne({ commands }: SealRound, member: Member, order: Seal): Promise<SealReply> {
  const reply = await commands.seal(member, order);
  if (order.digest !== undefined && reply.digest !== order.digest)
    throw new TfsError('CONFLICT', `server ${member.id} sealed block ${order.block} with another digest`);
  return reply;
}

/** Asks all at once and waits for all, so that nothing of this attempt is under way when the next one starts. */
async function all<T, R>(
  items: readonly T[],
  name: (item: T) => string,
  ask: (item: T) => Promise<R>,
): Promise<R[]> {
  const results = await Promise.allSettled(items.map(ask));
  return results.map((result, i) => {
    if (result.status === 'rejected') throw named(name(items[i]!), result.reason);
    return result.value;
  });
}

function named(what: string, reason: unknown): TfsError {
  const error = toTfsError(reason);
  return new TfsError(error.code, `${what}: ${error.message}`, { cause: reason });
}
