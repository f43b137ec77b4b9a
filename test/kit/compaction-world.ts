import { isTfsError, TfsError } from '../../common/errors.ts';
import { type MutationType, nameFlagsOf, OpType } from '../../common/format/ops.ts';
import { recordSpan } from '../../common/format/record.ts';
import {
  ALIAS_BIT,
  type BlockId,
  type Cookie,
  cookieOf,
  epochOf,
  type FileId,
  type ServerId,
  type Slot,
} from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import type { ConfigurationWish, RequestCfgReply } from '../../common/wire/control.ts';
import { NameFlag, Op } from '../../common/wire/messages.ts';
import type { RpcRequest } from '../../common/wire/rpc-server.ts';
import type { FaultName } from '../../dataserver/block/faults.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import { faultsOf, put, superblockOf, Writer, type Written } from './block-world.ts';
import { addressOf, type Carrier, DataNode, IDS, LeadNode } from './compaction-node.ts';
import { turn } from './memory-net.ts';
import { RecordingDisk } from './recording-disk.ts';
import { SeededRandom } from './seeded-random.ts';

const BLOCK = 0x2_0000 as BlockId;
const NAMES = 9;
/** Names that nobody ever touches: they are there, always, for everyone. */
const UNTOUCHED = 3;
const ALL = { offset: 0, length: 1 << 20 };

/** What a run came across, so that a test can tell that it was worth it. */
export interface CompactionFigures {
  /** Commits on one replica each, before everything was made to work. */
  commits: number;
  /** Steps at which some replicas had a generation and others not. */
  halfDone: number;
  /** Replicas that got their file from others. */
  repaired: number;
}

interface Change {
  readonly slot: number;
  readonly type: MutationType;
  readonly startedAt: number;
  endedAt: number;
  acked: boolean;
}

/**
 * Compactions among everything that may happen around them: three DataServers' real stores, sequencers, repairs and
 * promises, one block, and one or two leaders that have it compacted, often at once, on a network that loses, delays and
 * repeats, with processes that die at any moment and lose what was not durable.
 */
export class CompactionWorld implements Carrier {
  readonly faults: { has(name: FaultName): boolean };
  readonly seen: CompactionFigures = { commits: 0, halfDone: 0, repaired: 0 };
  readonly #random: SeededRandom;
  readonly #nodes = new Map<ServerId, DataNode>();
  readonly #disks = new Map<ServerId, RecordingDisk>();
  readonly #pending = new Set<Promise<unknown>>();
  readonly #changes: Change[] = [];
  /** Second names that clients were told. */
  readonly #aliases: { readonly id: FileId; readonly slot: number }[] = [];
  #records: readonly Written[] = [];
  #leaders: LeadNode[] = [];
  #cut = new Set<string>();
  #epoch = 1;
  #events = 0;
  #lossy = true;
  #wrong: string | undefined;

  private constructor(seed: number, faults: readonly FaultName[]) {
    this.#random = new SeededRandom(seed);
    this.faults = faultsOf(...faults);
  }

  /** @returns what is wrong, if anything, and how much has happened */
  static async run(
    seed: number,
    steps: number,
    faults: readonly FaultName[] = [],
  ): Promise<{ readonly wrong: string | undefined; readonly seen: CompactionFigures }> {
    const world = new CompactionWorld(seed, faults);
    await world.#start();
    try {
      for (let i = 0; i < steps && world.#wrong === undefined; i++) await world.#step();
      const wrong = world.#wrong ?? (await world.#heal()) ?? (await world.#judge());
      return { wrong, seen: world.seen };
    } finally {
      for (const node of world.#nodes.values()) await node.store.close();
    }
  }

  async send(
    from: ServerId | 'nameserver',
    to: ServerId,
    op: number,
    { header, payload }: { readonly header: Buffer; readonly payload: Buffer },
    isDead: () => boolean,
  ): Promise<{ header: Buffer; payload: Buffer }> {
    const random = this.#random;
    const receiver = this.#nodes.get(to);
    await this.#delay();
    // The one message after which there is no way back is lost more often than others.
    const odds = op === Op.COMMIT_GENERATION ? 3 : 30;
    const isLost = () => this.#lossy && random.below(odds) === 0;
    const isCut = () => isDead() || receiver === undefined || receiver.dead || this.#cut.has(`${from} ${to}`);
    if (isCut() || isLost()) throw new TfsError('CONNECTION_LOST', `no way from ${from} to ${to}`);
    const role = from === 'nameserver' ? 'nameserver' : 'dataserver';
    const request: RpcRequest = {
      op,
      header,
      payload,
      deadlineAt: Number.MAX_SAFE_INTEGER as RpcRequest['deadlineAt'],
      peer: { role, id: String(from), remote: addressOf(to) },
    };
    const handler = receiver!.handlers.get(op);
    if (handler === undefined) throw new Error(`no handler for ${op}`);
    // A repeat that nobody waits for, now or much later.
    if (this.#lossy && random.below(12) === 0) {
      const later = async (): Promise<void> => {
        for (let i = random.below(300); i > 0; i--) await turn();
        if (!receiver!.dead) await handler(request);
      };
      this.#keep(later());
    }
    const result = await handler(request);
    if (op === Op.COMMIT_GENERATION && this.#lossy) this.seen.commits++;
    if (op === Op.REPAIR) this.seen.repaired++;
    await this.#delay();
    if (isCut() || isLost()) throw new TfsError('DEADLINE', `no answer from ${to} to ${from}`);
    return { header: result.header, payload: Buffer.concat(result.payload ?? []) };
  }

  async request(
    from: ServerId,
    block: BlockId,
    failed: readonly ServerId[],
    wish: ConfigurationWish,
  ): Promise<RequestCfgReply> {
    await this.#delay();
    const leader = this.#leaders.filter(({ sees }) => sees.has(from)).at(-1);
    if (leader === undefined || !(await leader.hear(block))) throw new TfsError('UNAVAILABLE', 'no leader');
    return leader.configurer.request(block, failed, { ...wish, server: from });
  }

  async diskDelay(): Promise<void> {
    for (let i = this.#random.below(3); i > 0; i--) await turn();
  }

  async #start(): Promise<void> {
    const random = this.#random;
    const payloads = Array.from({ length: NAMES }, () => random.bytes(random.below(400)));
    for (const id of IDS) {
      this.#disks.set(id, new RecordingDisk());
      const node = await DataNode.boot(id, this.#disks.get(id)!, this);
      const writer = new Writer(superblockOf(BLOCK));
      const configuration = { version: { epoch: epochOf(1), n: 1 }, opsPrimary: IDS[0]!, members: IDS };
      await node.store.create(writer.superblock, configuration);
      this.#records = await put(node.store, writer, payloads);
      const { validLength: length, slots } = await node.store.fence(BLOCK, epochOf(1));
      const order = { length, slots, digest: undefined, epoch: epochOf(1), complete: true };
      await node.store.seal(BLOCK, order);
      this.#nodes.set(id, node);
    }
    this.#leaders = [new LeadNode(1, this.#nodes, this)];
  }

  async #step(): Promise<void> {
    const random = this.#random;
    this.#events++;
    const generations = [...this.#nodes.values()].map(({ store }) => store.info(BLOCK)!.generation);
    if (new Set(generations).size > 1) this.seen.halfDone++;
    const action = random.below(100);
    if (action < 30) this.#change();
    else if (action < 38) this.#alias();
    else if (action < 48) this.#keep(this.#look());
    else if (action < 56) this.#cut = random.below(3) === 0 ? this.#someCut() : new Set();
    else if (action < 61) await this.#crash(random.pick(IDS));
    else if (action < 70) await this.#restart();
    else if (action < 73) this.#newLeader();
    else if (action < 84) await this.#compact();
    else for (const leader of this.#leaders) if (await leader.hear(BLOCK)) leader.pump();
    for (let i = random.below(40); i > 0; i--) await turn();
  }

  /** Whoever leads, or thinks so, has it compacted; sometimes the same job is there twice. */
  async #compact(): Promise<void> {
    for (const leader of this.#leaders) {
      await leader.hear(BLOCK);
      for (let i = 1 + this.#random.below(2); i > 0; i--) this.#keep(leader.compaction.request(BLOCK));
    }
  }

  #change(): void {
    const { id, ops, takeover } = this.#nodes.get(this.#random.pick(IDS)) ?? {};
    if (id === undefined) return;
    const slot = UNTOUCHED + this.#random.below(NAMES - UNTOUCHED);
    const type = this.#random.pick([OpType.DELETE, OpType.DELETE, OpType.UNDELETE] as const);
    const opId = this.#random.bytes(16);
    const change: Change = {
      ...{ slot, type, startedAt: this.#events },
      ...{ endedAt: Number.POSITIVE_INFINITY, acked: false },
    };
    this.#changes.push(change);
    const work = async (): Promise<void> => {
      await takeover!.ensure(BLOCK);
      await ops!.mutate(BLOCK, type, slot as FileId, opId);
      // As a client is told: what is gone cannot be brought back.
      const flags = await this.#nodes.get(id)!.store.check(BLOCK, slot as FileId);
      if (type === OpType.UNDELETE && (flags & NameFlag.PURGED) !== 0) return;
      change.acked = true;
      change.endedAt = this.#events;
    };
    this.#keep(work());
  }

  #alias(): void {
    const node = this.#nodes.get(this.#random.pick(IDS));
    const slot = UNTOUCHED + this.#random.below(NAMES - UNTOUCHED);
    const aliasId = ((ALIAS_BIT | (this.#random.u32() & 0x7fff_ffff)) >>> 0) as FileId;
    const opId = this.#random.bytes(16);
    const work = async (): Promise<void> => {
      if (node === undefined) return;
      await node.takeover.ensure(BLOCK);
      const alias = { aliasId, cookie: cookieOf(9), target: slot as Slot, opId };
      this.#aliases.push({ id: await node.ops.alias(BLOCK, alias), slot });
    };
    this.#keep(work());
  }

  /** A name that nobody touches is answered with its bytes, or with an excuse. */
  async #look(): Promise<void> {
    const node = this.#nodes.get(this.#random.pick(IDS));
    const { cookie, payload, slot } = this.#records[this.#random.below(UNTOUCHED)]!;
    if (node === undefined) return;
    try {
      const read = await node.store.read(BLOCK, slot as number as FileId, cookie, ALL, false);
      if (!read.payload.equals(payload)) this.#wrong = `server ${node.id} answers slot ${slot} wrongly`;
    } catch (error) {
      if (isTfsError(error, 'NOT_FOUND') || isTfsError(error, 'CORRUPT'))
        this.#wrong = `server ${node.id} says ${error.code} to slot ${slot}, which lives`;
    }
  }

  #someCut(): Set<string> {
    const cut = new Set<string>();
    const a = this.#random.pick(IDS);
    for (const other of IDS) if (other !== a) cut.add(`${a} ${other}`).add(`${other} ${a}`);
    const isUnseen = this.#random.below(2) === 0;
    if (isUnseen) cut.add(`nameserver ${a}`);
    for (const { sees } of this.#leaders) {
      for (const id of IDS) sees.add(id);
      if (isUnseen && this.#random.below(3) > 0) sees.delete(a);
    }
    return cut;
  }

  async #crash(id: ServerId): Promise<void> {
    const node = this.#nodes.get(id);
    if (node === undefined || this.#nodes.size < 2) return;
    node.dead = true;
    this.#nodes.delete(id);
    const random = this.#random;
    const how = random.below(3);
    const image =
      how === 0
        ? node.disk.fork()
        : node.disk.crashPoint().image(() => (how === 1 ? random.below(2) === 0 : false));
    this.#disks.set(id, image);
    await node.store.close().catch(() => undefined);
  }

  async #restart(): Promise<void> {
    for (const id of IDS)
      if (!this.#nodes.has(id)) this.#nodes.set(id, await DataNode.boot(id, this.#disks.get(id)!, this));
  }

  /** The old one may go on for a while: only promises keep it from doing harm. */
  #newLeader(): void {
    this.#epoch++;
    const old = this.#leaders.at(-1)!;
    const leader = new LeadNode(this.#epoch, this.#nodes, this);
    const keepsOld = this.#random.below(2) === 0;
    this.#leaders = keepsOld ? [old, leader] : [leader];
    if (!keepsOld) old.deposed = true;
  }

  /** Everything works again: within a while all replicas must be alike, and nothing but what lives is left. */
  async #heal(): Promise<string | undefined> {
    this.#lossy = false;
    this.#cut = new Set();
    await this.#restart();
    for (const leader of this.#leaders) leader.deposed = true;
    await Promise.allSettled(this.#pending);
    const leader = new LeadNode(++this.#epoch, this.#nodes, this);
    this.#leaders = [leader];
    let last = '';
    for (let i = 0; i < 80; i++) {
      await leader.hear(BLOCK);
      for (const { clock } of this.#nodes.values()) clock.advance(2_000);
      leader.clock.advance(5_000);
      leader.pump();
      try {
        await leader.configurer.request(BLOCK, []);
        await this.#nodes.get(leader.map.facts(BLOCK)!.opsPrimary!)?.ops.confirm(BLOCK);
        await leader.hear(BLOCK);
        const { freedBytes } = await leader.compaction.request(BLOCK);
        if (freedBytes === 0 && this.#isSettled()) return undefined;
      } catch (error) {
        if (!isTfsError(error)) throw error;
        last = error.message;
      }
      for (let k = 0; k < 60; k++) await turn();
    }
    const states = [...this.#nodes.values()].map(({ id, store }) => {
      const { version, seq, generation, flags, members } = store.info(BLOCK)!;
      return `${id}: (${version.epoch}, ${version.n}) ${seq} of ${members.join()}, generation ${generation}, flags ${flags}`;
    });
    return `it does not settle: ${states.join('; ')}: ${last}`;
  }

  #isSettled(): boolean {
    const infos = [...this.#nodes.values()].map(({ store }) => store.info(BLOCK)!);
    const [first] = infos;
    return infos.every(
      ({ version, seq, members, generation, flags, seal }) =>
        version.epoch === first!.version.epoch &&
        version.n === first!.version.n &&
        seq === first!.seq &&
        generation === first!.generation &&
        seal!.digest.equals(first!.seal!.digest) &&
        flags === 0 &&
        members.length === IDS.length,
    );
  }

  async #judge(): Promise<string | undefined> {
    const images: string[] = [];
    for (const id of IDS) {
      const running = this.#nodes.get(id)!;
      await running.store.close();
      const node = await DataNode.boot(id, running.disk.settled(), this);
      this.#nodes.set(id, node);
      const { store, disk } = node;
      const wrong = (await this.#names(store)) ?? (await store.verify(BLOCK)).problems[0];
      if (wrong !== undefined) return `server ${id}: ${wrong}`;
      const { generation } = store.info(BLOCK)!;
      const files = (await disk.list('blocks')).filter((name) => !name.endsWith('.ops'));
      const orphan = files.find((name) => !name.startsWith(`${BLOCK}.${generation}.`));
      if (orphan !== undefined) return `server ${id}: orphan ${orphan}`;
      images.push((await disk.readFile(`blocks/${BLOCK}.${generation}.blk`)).toString('base64'));
    }
    return new Set(images).size > 1 ? 'replicas differ' : undefined;
  }

  async #names(store: BlockStore): Promise<string | undefined> {
    const state = await store.opsState(BLOCK);
    let bytes = SUPERBLOCK_BYTES;
    for (const { slot, cookie, payload } of this.#records) {
      const flags = nameFlagsOf(state, slot as number as FileId)!;
      const isDeleted = (flags & NameFlag.DELETED) !== 0;
      if ((flags & NameFlag.PURGED) === 0) bytes += recordSpan(payload.length);
      const wrong =
        (await readsAs(store, slot as number as FileId, cookie, isDeleted ? undefined : payload)) ??
        this.#isAsAcknowledged(slot, isDeleted);
      if (wrong !== undefined) return wrong;
    }
    for (const { id, slot } of this.#aliases) {
      const wrong = await readsAs(store, id, cookieOf(9), this.#records[slot]!.payload);
      if (wrong !== undefined) return `second name of slot ${slot}: ${wrong}`;
    }
    const { length } = store.info(BLOCK)!;
    return length === bytes ? undefined : `${length} bytes, ${bytes} of which live`;
  }

  /** The state is what some change left, after which no acknowledged one began; or nobody ever left anything. */
  #isAsAcknowledged(slot: number, isDeleted: boolean): string | undefined {
    const mine = this.#changes.filter((change) => change.slot === slot);
    const isLast = (last: Change) =>
      !mine.some((other) => other.acked && other !== last && other.startedAt > last.endedAt);
    const fits = mine.some((change) => (change.type === OpType.DELETE) === isDeleted && isLast(change));
    if (fits || (!isDeleted && !mine.some(({ acked, type }) => acked && type === OpType.DELETE)))
      return undefined;
    const told = mine
      .filter(({ acked }) => acked)
      .map((one) => `${one.type}@${one.startedAt}-${one.endedAt}`);
    return `slot ${slot} is ${isDeleted ? '' : 'not '}deleted after ${told.join(' ')}`;
  }

  async #delay(): Promise<void> {
    for (let i = this.#random.below(4); i > 0; i--) await turn();
  }

  #keep(work: Promise<unknown>): void {
    const kept = work.catch((error: unknown) => {
      if (!isTfsError(error)) throw error;
    });
    this.#pending.add(kept);
    kept.finally(() => this.#pending.delete(kept)).catch(() => undefined);
  }
}

/** @param expected undefined: it must not be answered */
async function readsAs(
  store: BlockStore,
  fileId: FileId,
  cookie: Cookie,
  expected: Buffer | undefined,
): Promise<string | undefined> {
  const found = await store.read(BLOCK, fileId, cookie, ALL, false).then(
    ({ payload }) => payload,
    (error: unknown) => (isTfsError(error) ? error.code : 'UNKNOWN'),
  );
  if (expected === undefined)
    return found === 'NOT_FOUND' ? undefined : `${fileId} is deleted and was answered`;
  return Buffer.isBuffer(found) && found.equals(expected)
    ? undefined
    : `${fileId} lives and reads as ${found}`;
}
