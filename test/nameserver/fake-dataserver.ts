import type { z } from 'zod';
import { isTfsError, TfsError } from '../../common/errors.ts';
import {
  type BlockId,
  epochOf,
  type HostPort,
  incarnationOf,
  type ServerId,
  serverId,
} from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import {
  compareReigns,
  decodeControl,
  encodeControl,
  type HeartbeatReply,
  type OpenBlockReply,
  type PromiseReply,
  type Register,
  type RegisterReply,
  type Reign,
  zEmpty,
  zFence,
  zHeartbeatReply,
  zOpenBlockReply,
  zPromise,
  zRegisterReply,
  zSeal,
} from '../../common/wire/control.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { type BlockEntry, BlockState, encodeBlockEntries, Op } from '../../common/wire/messages.ts';
import { Peers } from '../../common/wire/peers.ts';
import { RpcServer } from '../../common/wire/rpc-server.ts';
import { tableDigest } from '../../common/wire/table-digest.ts';
import type { ManualClock } from '../kit/manual-clock.ts';
import type { MemoryNet } from '../kit/memory-net.ts';
import { countingRandom, SECRET } from '../kit/wire-world.ts';
import { entryOf } from './entries.ts';
import { heartbeatOf, IO, registerOf } from './messages.ts';

/** What it and one NameServer know of each other. */
class Link {
  registered = false;
  sequence = 0;
  echo: number | undefined;
  /** Its last answer, if it said that it leads and this server obeyed. */
  leader: Reign | undefined;
  confirmed = false;
  /** What its last answer excepted from that. */
  stale: readonly BlockId[] = [];
  beating = false;
  /** It was asked to beat while it did. */
  again = false;
  readonly dirty = new Set<BlockId>();
}

/** What a DataServer says and answers to NameServers, with lengths for bytes. */
export class FakeDataServer {
  readonly id: ServerId;
  readonly blocks = new Map<BlockId, BlockEntry>();
  incarnation = 1;
  pid: number;
  promise: Reign = { epoch: epochOf(0), nameserver: 0 };
  /** Reigns whose orders were carried out, in order of time: only ever higher ones. */
  readonly obeyed: Reign[] = [];
  /** Orders that were refused. */
  refusals = 0;
  known: Set<ServerId>;
  readonly removed = new Set<ServerId>();
  highestIds: { page: number; counter: number }[] = [];
  registrations = 0;
  /** Heartbeats to this NameServer do not arrive. */
  silentTo: number | undefined;
  /** What this NameServer asks is not answered. */
  deafTo: number | undefined;
  /** How long the answer to a PROMISE takes. */
  promiseMs = 0;
  io = IO;
  overrides: Partial<Register> = {};
  readonly #net: MemoryNet;
  readonly #clock: ManualClock;
  readonly #nameservers: () => readonly HostPort[];
  readonly #links = [new Link(), new Link()];
  #server: RpcServer | undefined;
  #peers: Peers;

  constructor(
    id: number,
    deps: { net: MemoryNet; clock: ManualClock; nameservers: () => readonly HostPort[] },
  ) {
    this.id = serverId(id);
    this.pid = 1000 + id;
    this.known = new Set([this.id]);
    this.#net = deps.net;
    this.#clock = deps.clock;
    this.#nameservers = deps.nameservers;
    this.#peers = this.#openPeers();
  }

  async start(): Promise<void> {
    const server = await RpcServer.listen({
      net: this.#net,
      clock: this.#clock,
      random: countingRandom(),
      keyring: Keyring.ofSecret(SECRET),
      address: { host: '127.0.0.1', port: 0 },
      id: String(this.id),
      log: silentLog,
    });
    server.handle(Op.PROMISE, ['nameserver'], async ({ header, peer }) => {
      this.#hear(peer);
      if (this.promiseMs > 0) await this.#clock.sleep(this.promiseMs);
      const { reign } = decodeControl(zPromise, header, 'PROMISE');
      if (compareReigns(reign, this.promise) > 0) {
        this.#accept(reign);
        void this.beat();
      }
      const incarnation = incarnationOf(this.incarnation);
      const reply: PromiseReply = { server: this.id, incarnation, promise: this.promise };
      return { header: encodeControl(reply) };
    });
    server.handle(Op.FENCE, ['nameserver'], ({ header, peer }) => {
      this.#hear(peer);
      const { block, reign } = decodeControl(zFence, header, 'FENCE');
      this.#order(reign);
      if (this.io.readOnly) throw new TfsError('READ_ONLY', 'this disk only reads since a write failed');
      const entry = this.blocks.get(block);
      const base = { holes: [], clean: true, members: entry?.members ?? [] };
      if (entry === undefined)
        return { header: encodeControl({ ...base, known: false, validLength: 0, slots: 0 }) };
      if (entry.state !== BlockState.SEALED) this.put({ ...entry, state: BlockState.FENCED });
      return { header: encodeControl({ ...base, known: true, validLength: entry.length, slots: 1 }) };
    });
    server.handle(Op.SEAL, ['nameserver'], ({ header, peer }) => {
      this.#hear(peer);
      const { block, reign, length } = decodeControl(zSeal, header, 'SEAL');
      this.#order(reign);
      this.put({ ...this.blocks.get(block)!, state: BlockState.SEALED, length });
      return { header: encodeControl({ digest: 'ab'.repeat(32), length, slots: 1 }) };
    });
    this.#server = server;
  }

  get address(): HostPort {
    return this.#server!.address;
  }

  /** The reign of the leader that last confirmed its replicas, if it does not know of a higher one. */
  get confirmedBy(): Reign | undefined {
    const link = this.#links.find(
      ({ confirmed, leader }) =>
        confirmed && leader !== undefined && compareReigns(leader, this.promise) >= 0,
    );
    return link?.leader;
  }

  /** Replicas that the leader, when it last confirmed the others, said may lack something. */
  get stale(): readonly BlockId[] {
    return this.#links.find(({ confirmed }) => confirmed)?.stale ?? [];
  }

  put(entry: BlockEntry): void {
    this.blocks.set(entry.block, entry);
    for (const link of this.#links) link.dirty.add(entry.block);
    const page = entry.block >>> 16;
    const counter = entry.block & 0xffff;
    const other = this.highestIds.filter((known) => known.page !== page);
    const before = this.highestIds.find((known) => known.page === page)?.counter ?? 0;
    this.highestIds = [...other, { page, counter: Math.max(before, counter) }];
  }

  /** One turn of its life: with each NameServer, registers and reports if it has to, else a heartbeat. */
  async beat(): Promise<void> {
    await Promise.all(this.#nameservers().map((_, i) => this.#beatOne(i).catch(() => undefined)));
  }

  async #beatOne(i: number): Promise<void> {
    const link = this.#links[i]!;
    // The last one has not been answered.
    if (i === this.silentTo) return;
    if (link.beating) {
      link.again = true;
      return;
    }
    link.beating = true;
    try {
      if (link.registered) await this.#heartbeat(i, link);
      else {
        await this.register(i);
        await this.report(2, i);
      }
    } catch (error) {
      link.registered = false;
      link.leader = undefined;
      if (!isTfsError(error, 'UNREGISTERED')) throw error;
    } finally {
      link.beating = false;
      if (link.again) void this.#beatOne(i).catch(() => undefined);
      link.again = false;
    }
  }

  async #heartbeat(i: number, link: Link): Promise<void> {
    const changes = [...link.dirty].map((block) => this.blocks.get(block)!).filter(Boolean);
    link.dirty.clear();
    const message = heartbeatOf(this.id, {
      incarnation: this.incarnation,
      promise: this.promise,
      sequence: ++link.sequence,
      io: this.io,
      digest: tableDigest(this.blocks.values()),
      ...(link.echo === undefined ? {} : { echo: link.echo }),
    });
    const payload = encodeBlockEntries(changes);
    const reply = await this.#control(Op.HEARTBEAT, message, zHeartbeatReply, { payload, to: i });
    this.#heard(link, reply);
    link.confirmed = link.leader !== undefined && reply.confirmed;
    link.stale = reply.stale;
    if (reply.resync) link.registered = false;
  }

  async register(i = 0): Promise<RegisterReply> {
    const message = registerOf(this.id, {
      incarnation: this.incarnation,
      pid: this.pid,
      address: this.address,
      promise: this.promise,
      knownMembers: [...this.known].filter((id) => !this.removed.has(id)),
      removedMembers: [...this.removed],
      highestIds: this.highestIds,
      ...this.overrides,
    } as Parameters<typeof registerOf>[1]);
    const link = this.#links[i]!;
    link.confirmed = false;
    link.echo = undefined;
    const reply = await this.#control(Op.REGISTER, message, zRegisterReply, { to: i });
    this.registrations++;
    this.#heard(link, reply);
    return reply;
  }

  async report(pageSize = 2, i = 0): Promise<void> {
    const link = this.#links[i]!;
    const entries = [...this.blocks.values()];
    const pages = Math.max(1, Math.ceil(entries.length / pageSize));
    for (let page = 0; page < pages; page++) {
      const message = {
        server: this.id,
        incarnation: this.incarnation,
        promise: this.promise,
        echo: link.echo,
        page,
        last: page === pages - 1,
        sequence: link.sequence,
      };
      const payload = encodeBlockEntries(entries.slice(page * pageSize, (page + 1) * pageSize));
      await this.#control(Op.REPORT, message, zEmpty, { payload, to: i });
    }
    link.registered = true;
  }

  /** Asks the leader for a block and creates it on itself. @param on and on these */
  async openBlock(on: readonly FakeDataServer[] = []): Promise<OpenBlockReply> {
    const ask = { server: this.id, incarnation: this.incarnation, avoid: [] };
    const reply = await this.#control(Op.OPEN_BLOCK, ask, zOpenBlockReply);
    const members = reply.members.map(({ id }) => id);
    for (const server of [this, ...on]) {
      if (!members.includes(server.id)) continue;
      server.#order(reply.reign);
      server.put(entryOf({ block: reply.block, epoch: reply.version.epoch, n: reply.version.n, members }));
    }
    return reply;
  }

  async endSession(block: BlockId, failed: readonly ServerId[] = []): Promise<void> {
    const reason = failed.length > 0 ? 'member' : 'full';
    const message = { server: this.id, block, session: 1, reason, failed };
    await this.#control(Op.END_SESSION, message, zEmpty);
  }

  /** A new process on the same mount: what was open is recovered. */
  restart(): void {
    this.incarnation++;
    this.pid += 100;
    for (const link of this.#links) {
      link.registered = false;
      link.leader = undefined;
      link.sequence = 0;
    }
    for (const entry of this.blocks.values())
      if (entry.state === BlockState.OPEN) this.put({ ...entry, state: BlockState.RECOVERED });
  }

  async close(): Promise<void> {
    await this.#peers.close();
    await this.#server?.close();
  }

  #hear(peer: { readonly id: string }): void {
    if (peer.id === String(this.deafTo)) throw new TfsError('CONNECTION_LOST', 'planted');
  }

  /** An order under this reign. @throws TfsError STALE_EPOCH */
  #order(reign: Reign): void {
    if (compareReigns(reign, this.promise) < 0) {
      this.refusals++;
      const { epoch, nameserver } = this.promise;
      throw new TfsError('STALE_EPOCH', `epoch ${reign.epoch} is over`, { details: { epoch, nameserver } });
    }
    this.#accept(reign);
    this.obeyed.push(reign);
  }

  #accept(reign: Reign): void {
    if (compareReigns(reign, this.promise) > 0) this.promise = reign;
  }

  #heard(link: Link, reply: RegisterReply | HeartbeatReply): void {
    link.echo = reply.token;
    for (const member of reply.members) this.known.add(member);
    for (const server of reply.removed) this.removed.add(server);
    const obeys = reply.leader && compareReigns(reply.reign, this.promise) >= 0;
    link.leader = obeys ? reply.reign : undefined;
    if (!obeys) return;
    // A new leader need not wait a beat for the promise.
    if (compareReigns(reply.reign, this.promise) > 0) link.again = true;
    this.#accept(reply.reign);
  }

  /** @param options `to` the leader where it is absent */
  async #control<T>(
    op: number,
    message: object,
    schema: z.ZodType<T>,
    { payload, to = this.#leader() }: { payload?: Buffer; to?: number } = {},
  ): Promise<T> {
    const address = this.#nameservers()[to]!;
    const body = payload === undefined ? undefined : [payload];
    return (await this.#peers.callControl(address, op, message, schema, body, 2000)).message;
  }

  #leader(): number {
    let best = 0;
    this.#links.forEach(({ leader }, i) => {
      const other = this.#links[best]!.leader;
      if (leader !== undefined && (other === undefined || compareReigns(leader, other) > 0)) best = i;
    });
    return best;
  }

  #openPeers(): Peers {
    return Peers.open({
      net: this.#net,
      clock: this.#clock,
      random: countingRandom(),
      keyring: Keyring.ofSecret(SECRET),
      role: 'dataserver',
      id: String(this.id),
    });
  }
}
