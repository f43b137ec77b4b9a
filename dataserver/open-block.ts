import { isTfsError, type TfsError, toTfsError } from '../common/errors.ts';
import { encodeSuperblock, type Superblock } from '../common/format/superblock.ts';
import { type BlockId, type Incarnation, type ServerId, type Session, sessionOf } from '../common/ids.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';
import { type OpenBlockReply, zEmpty, zOpenBlockReply } from '../common/wire/control.ts';
import { Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import { type Faults, NO_FAULTS, seedOf } from './block/faults.ts';
import type { BlockStore } from './block/store.ts';
import type { NameServers } from './nameservers.ts';
import type { PromiseKeeper } from './promise.ts';
import type { SessionSpec } from './session.ts';
import type { Suspects } from './suspects.ts';

export interface OpenBlockDeps {
  readonly server: ServerId;
  readonly incarnation: Incarnation;
  /** 32 hex digits. */
  readonly clusterUuid: string;
  readonly blockBytes: number;
  readonly store: BlockStore;
  readonly peers: Peers;
  readonly nameservers: NameServers;
  readonly promise: PromiseKeeper;
  readonly suspects: Suspects;
  readonly clock: Clock;
  readonly random: Random;
  /** Planted bugs, in tests. */
  readonly faults?: Faults | undefined;
}

export type OpenedBlock =
  | { readonly ok: true; readonly spec: SessionSpec }
  /** Some members may hold the empty block: the leader has to be told that nothing will be written to it. */
  | {
      readonly ok: false;
      readonly block: BlockId;
      readonly session: Session;
      readonly failed: readonly ServerId[];
      readonly error: TfsError;
    };

/**
 * A new block with this server as its primary: an id and a write set from the leader, then the same superblock, durable,
 * on every member. It is written to only after all of them have said so.
 *
 * @throws TfsError of the leader: NO_WRITE_SET, SAFE_MODE, UNAVAILABLE and others
 */
export async function openBlock(deps: OpenBlockDeps): Promise<OpenedBlock> {
  const { server, suspects, store, peers, promise } = deps;
  const ask = { server, incarnation: deps.incarnation, avoid: suspects.all };
  const grant = await deps.nameservers.callLeader(Op.OPEN_BLOCK, ask, zOpenBlockReply);
  const { block, reign, version, members, targetReplicas } = grant;
  await promise.accept(reign);
  const superblock = superblockFor(deps, grant);
  const others = members.filter((member) => member.id !== server);
  const order = { block, reign, version, opsPrimary: server, members };
  const image = encodeSuperblock(superblock);
  const configuration = { version, opsPrimary: server, members: members.map(({ id }) => id) };
  const own = promise.during(reign, () => store.create(superblock, configuration));
  const theirs = others.map(({ address }) =>
    peers.callControl(address, Op.CREATE_BLOCK, order, zEmpty, [image]),
  );
  const [mine, ...answers] = await Promise.allSettled([own, ...theirs]);
  const failed: ServerId[] = [];
  let error: unknown = mine.status === 'rejected' ? mine.reason : undefined;
  answers.forEach((answer, i) => {
    if (answer.status === 'fulfilled') return;
    const { id, address } = others[i]!;
    error ??= answer.reason;
    // It obeys a newer leader: nothing is wrong with it.
    if (isTfsError(answer.reason, 'STALE_EPOCH')) return;
    suspects.suspect(id, address, answer.reason);
    failed.push(id);
  });
  if (error !== undefined) {
    return { ok: false, block, session: superblock.session, failed, error: toTfsError(error) };
  }
  const { session, blockBytes } = superblock;
  const seed = seedOf(deps.faults ?? NO_FAULTS, superblock);
  return { ok: true, spec: { block, session, seed, blockBytes, targetReplicas, self: server, others } };
}

function superblockFor(deps: OpenBlockDeps, grant: OpenBlockReply): Superblock {
  return {
    clusterUuid: deps.clusterUuid,
    block: grant.block,
    generation: 0,
    session: sessionOf(Math.max(1, deps.random.u32())),
    blockBytes: deps.blockBytes,
    targetReplicas: grant.targetReplicas,
    slotCount: 0,
    createdAtMs: deps.clock.now(),
    salt: deps.random.bytes(16),
    members: grant.members.map(({ id, incarnation }) => ({ id, incarnation })),
  };
}
