import type { BlockId, ServerId, Version } from '../../common/ids.ts';
import { compareVersions } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { type BlockEntry, BlockFlag, BlockState } from '../../common/wire/messages.ts';

interface NaiveReplica {
  state: number;
  member: boolean;
  behind: boolean;
  confirmed: boolean;
  stale: boolean;
  good: boolean;
  readable: boolean;
  sealedAt: number | undefined;
  generation: number;
  outdated: boolean;
}

interface NaiveBlock {
  version: Version;
  seq: number;
  length: number;
  generation: number;
  opsPrimary: ServerId | undefined;
  target: number;
  /** Given out, and not reported by a member since. */
  opening: boolean;
  replicas: Map<ServerId, NaiveReplica>;
}

const expected = (): NaiveReplica => ({
  state: 0,
  member: true,
  behind: false,
  confirmed: true,
  stale: false,
  good: true,
  readable: true,
  sealedAt: undefined,
  generation: 0,
  outdated: false,
});

/** The block map as one would write it with all the memory in the world: an object for each block and replica. */
export class NaiveMap {
  readonly blocks = new Map<BlockId, NaiveBlock>();

  open(block: BlockId, version: Version, members: readonly ServerId[], target: number): void {
    this.blocks.set(block, {
      version,
      seq: 0,
      length: 0,
      generation: 0,
      opsPrimary: members[0],
      target,
      opening: true,
      replicas: new Map(members.map((member) => [member, expected()])),
    });
  }

  report(server: ServerId, entry: BlockEntry): void {
    if (entry.state === BlockState.DROPPED) {
      const before = this.blocks.get(entry.block);
      const isOneLength = before && [...before.replicas.values()].every((one) => one.sealedAt === undefined);
      const heldNothing =
        (entry.flags & BlockFlag.RETIRED) !== 0 ||
        (before?.replicas.get(server)?.state === BlockState.SEALED &&
          before.length === SUPERBLOCK_BYTES &&
          before.generation === 0 &&
          isOneLength);
      this.lose(entry.block, server);
      const left = [...(this.blocks.get(entry.block)?.replicas.values() ?? [])];
      if (heldNothing && left.every(({ state }) => state === 0)) this.blocks.delete(entry.block);
      return;
    }
    let known = this.blocks.get(entry.block);
    const isNew = known === undefined;
    if (known === undefined) {
      this.open(entry.block, entry.version, entry.members, entry.targetReplicas);
      known = this.blocks.get(entry.block)!;
      known.opening = false;
    }
    const newerVersion = isNew || compareVersions(entry.version, known.version) > 0;
    const sameVersion = compareVersions(entry.version, known.version) === 0;
    const newerOps = newerVersion || (sameVersion && entry.seq > known.seq);
    const olderOps = sameVersion && entry.seq < known.seq;
    if ((entry.flags & BlockFlag.QUARANTINED) === 0) known.target = entry.targetReplicas;
    if (newerVersion) {
      known.version = entry.version;
      known.opsPrimary = undefined;
      for (const [id, replica] of known.replicas) {
        replica.member = false;
        if (replica.state === 0) known.replicas.delete(id);
      }
      for (const member of entry.members) {
        const replica = known.replicas.get(member);
        if (replica) replica.member = true;
        else known.replicas.set(member, expected());
        if (member === entry.opsPrimary) known.opsPrimary = member;
      }
    }
    const before = known.replicas.get(server) ?? expected();
    const { member } = known.replicas.get(server) ?? { member: false };
    const hadMore = before.state !== 0 && before.stale === before.behind;
    if (newerOps) {
      known.seq = entry.seq;
      if (!isNew)
        for (const replica of known.replicas.values()) {
          if (replica.state === 0) continue;
          if (newerVersion) Object.assign(replica, { stale: true, behind: false });
          else if (!replica.stale) replica.behind = true;
        }
    }
    const sealedAt = known.replicas.get(server)?.sealedAt;
    const readable = (entry.flags & BlockFlag.QUARANTINED) === 0;
    const isOtherwise = !isNew && known.generation > 0 && !member && entry.length !== known.length;
    known.replicas.set(server, {
      generation: entry.generation,
      outdated: entry.generation === known.generation && isOtherwise,
      sealedAt,
      state: entry.state,
      member,
      behind: olderOps,
      confirmed: true,
      stale: (!newerVersion && !sameVersion) || (olderOps && hadMore),
      good: (entry.flags & (BlockFlag.SUSPECT | BlockFlag.QUARANTINED)) === 0,
      readable,
    });
    if (entry.generation > known.generation) {
      known.generation = entry.generation;
      known.length = entry.length;
      for (const replica of known.replicas.values()) replica.sealedAt = undefined;
    }
    const isFinal = entry.state === BlockState.SEALED && readable;
    if (entry.generation === known.generation && known.generation > 0) {
      if (isFinal && !known.replicas.get(server)!.outdated) known.length = entry.length;
    } else if (entry.generation === known.generation) {
      if (entry.state === BlockState.SEALED && readable) this.sealed(known, server, entry.length);
      else {
        this.unsealed(known, server);
        if (sealedOf(known, server).length === 0) known.length = Math.max(known.length, entry.length);
      }
    }
    this.settleGeneration(known);
    this.settle(known);
  }

  settleGeneration(known: NaiveBlock): void {
    const held = [...known.replicas.values()].filter(({ state }) => state !== 0);
    if (known.generation === 0 || held.length === 0) {
      known.generation = 0;
      return;
    }
    const newest = Math.max(...held.map(({ generation }) => generation));
    for (const replica of known.replicas.values()) {
      const isBehind = replica.state !== 0 && replica.generation < newest;
      if (isBehind) replica.outdated = true;
      else if (newest < known.generation) replica.outdated = false;
    }
    known.generation = newest;
  }

  /** Lengths are kept apart only while they differ. */
  sealed(known: NaiveBlock, server: ServerId, length: number): void {
    const differed = [...known.replicas.values()].some(({ sealedAt }) => sealedAt !== undefined);
    if (!differed && length !== known.length && sealedOf(known, server).length > 0)
      for (const replica of sealedOf(known)) replica.sealedAt = known.length;
    const replica = known.replicas.get(server)!;
    if (differed || sealedOf(known).some(({ sealedAt }) => sealedAt !== undefined)) replica.sealedAt = length;
    this.reconcile(known);
    known.length = length;
  }

  unsealed(known: NaiveBlock, server: ServerId): void {
    const replica = known.replicas.get(server);
    if (replica) replica.sealedAt = undefined;
    this.reconcile(known);
  }

  reconcile(known: NaiveBlock): void {
    const lengths = new Set([...known.replicas.values()].flatMap(({ sealedAt }) => sealedAt ?? []));
    if (lengths.size !== 1) return;
    for (const length of lengths) known.length = length;
    for (const replica of known.replicas.values()) replica.sealedAt = undefined;
  }

  begin(server: ServerId): void {
    for (const { replicas } of this.blocks.values()) {
      const replica = replicas.get(server);
      if (replica) replica.confirmed = false;
    }
  }

  end(server: ServerId): void {
    for (const [block, { replicas }] of [...this.blocks])
      if (replicas.get(server)?.confirmed === false) this.lose(block, server);
  }

  lose(block: BlockId, server: ServerId): void {
    const known = this.blocks.get(block);
    const replica = known?.replicas.get(server);
    if (known === undefined || replica === undefined) return;
    this.unsealed(known, server);
    if (replica.member) known.replicas.set(server, expected());
    else known.replicas.delete(server);
    this.settleGeneration(known);
    if (known.replicas.size === 0) this.blocks.delete(block);
    else this.settle(known);
  }

  settle(known: NaiveBlock): void {
    if ([...known.replicas.values()].some(({ readable, state }) => readable && state !== 0))
      known.opening = false;
  }

  wholeOf(known: NaiveBlock): 'OPEN' | 'UNSEALED' | 'SEALED' | 'OPENING' {
    const { replicas, opening } = known;
    if ([...replicas.values()].some(({ sealedAt }) => sealedAt !== undefined)) return 'UNSEALED';
    const states = new Set(
      [...replicas.values()]
        .filter(({ readable, state }) => readable && state !== 0)
        .map(({ state }) => state),
    );
    if (states.size === 0) return opening ? 'OPENING' : 'UNSEALED';
    if (states.size > 1) return 'UNSEALED';
    if (states.has(BlockState.OPEN)) return 'OPEN';
    return states.has(BlockState.SEALED) ? 'SEALED' : 'UNSEALED';
  }
}

const sealedOf = ({ replicas }: NaiveBlock, but?: ServerId): NaiveReplica[] =>
  [...replicas]
    .filter(([server, { state, readable }]) => server !== but && state === BlockState.SEALED && readable)
    .map(([, replica]) => replica);
