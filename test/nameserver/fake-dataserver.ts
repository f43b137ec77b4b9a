import type { z } from 'zod';
import { isTfsError } from '../../common/errors.ts';
import { type BlockId, type HostPort, type ServerId, serverId } from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import {
  decodeControl,
  encodeControl,
  type OpenBlockReply,
  type Register,
  type RegisterReply,
  type Reign,
  zEmpty,
  zFence,
  zHeartbeatReply,
  zOpenBlockReply,
  zRegisterReply,
  zSeal,
} from '../../common/wire/control.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { type BlockEntry, BlockState, encodeBlockEntries, Op } from '../../common/wire/messages.ts';
import { Peers } from '../../common/wire/peers.ts';
import { RpcServer } from '../../common/wire/rpc-server.ts';
import { compareReigns } from '../../nameserver/reign.ts';
import type { ManualClock } from '../kit/manual-clock.ts';
import type { MemoryNet } from '../kit/memory-net.ts';
import { countingRandom, SECRET } from '../kit/wire-world.ts';
import { entryOf } from './entries.ts';
import { heartbeatOf, IO, registerOf } from './messages.ts';

/** What a DataServer says and answers to NameServers, with lengths for bytes. */
export class FakeDataServer {
  readonly id: ServerId;
  readonly blocks = new Map<BlockId, BlockEntry>();
  incarnation = 1;
  pid: number;
  promise: Reign = { epoch: 0 as Reign['epoch'], nameserver: 0 };
  known: Set<ServerId>;
  highestIds: { page: number; counter: number }[] = [];
  registrations = 0;
  io = IO;
  overrides: Partial<Register> = {};
  readonly #net: MemoryNet;
  readonly #clock: ManualClock;
  readonly #nameserver: () => HostPort;
  #server: RpcServer | undefined;
  #peers: Peers;
  #sequence = 0;
  #registered = false;
  #dirty = new Set<BlockId>();

  constructor(id: number, deps: { net: MemoryNet; clock: ManualClock; nameserver: () => HostPort }) {
    this.id = serverId(id);
    this.pid = 1000 + id;
    this.known = new Set([this.id]);
    this.#net = deps.net;
    this.#clock = deps.clock;
    this.#nameserver = deps.nameserver;
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
    server.handle(Op.FENCE, ['nameserver'], ({ header }) => {
      const { block, reign } = decodeControl(zFence, header, 'FENCE');
      this.#accept(reign);
      const entry = this.blocks.get(block);
      const base = { holes: [], clean: true, members: entry?.members ?? [] };
      if (entry === undefined)
        return { header: encodeControl({ ...base, known: false, validLength: 0, slots: 0 }) };
      if (entry.state !== BlockState.SEALED) this.put({ ...entry, state: BlockState.FENCED });
      return { header: encodeControl({ ...base, known: true, validLength: entry.length, slots: 1 }) };
    });
    server.handle(Op.SEAL, ['nameserver'], ({ header }) => {
      const { block, reign, length } = decodeControl(zSeal, header, 'SEAL');
      this.#accept(reign);
      this.put({ ...this.blocks.get(block)!, state: BlockState.SEALED, length });
      return { header: encodeControl({ digest: 'ab'.repeat(32), length, slots: 1 }) };
    });
    this.#server = server;
  }

  get address(): HostPort {
    return this.#server!.address;
  }

  put(entry: BlockEntry): void {
    this.blocks.set(entry.block, entry);
    this.#dirty.add(entry.block);
    const page = entry.block >>> 16;
    const counter = entry.block & 0xffff;
    const other = this.highestIds.filter((known) => known.page !== page);
    const before = this.highestIds.find((known) => known.page === page)?.counter ?? 0;
    this.highestIds = [...other, { page, counter: Math.max(before, counter) }];
  }

  /** One turn of its life: registers and reports if it has to, else a heartbeat. */
  async beat(): Promise<void> {
    if (!this.#registered) {
      await this.register();
      await this.report();
      return;
    }
    const changes = [...this.#dirty].map((block) => this.blocks.get(block)!);
    this.#dirty.clear();
    const message = heartbeatOf(this.id, {
      incarnation: this.incarnation,
      promise: this.promise,
      sequence: ++this.#sequence,
      io: this.io,
    });
    try {
      const reply = await this.#control(Op.HEARTBEAT, message, zHeartbeatReply, encodeBlockEntries(changes));
      this.#accept(reply.reign);
      for (const member of reply.members) this.known.add(member);
      if (reply.resync) this.#registered = false;
    } catch (error) {
      this.#registered = false;
      if (!isTfsError(error, 'UNREGISTERED')) throw error;
    }
  }

  async register(): Promise<RegisterReply> {
    const message = registerOf(this.id, {
      incarnation: this.incarnation,
      pid: this.pid,
      address: this.address,
      promise: this.promise,
      knownMembers: [...this.known],
      highestIds: this.highestIds,
      ...this.overrides,
    } as Parameters<typeof registerOf>[1]);
    const reply = await this.#control(Op.REGISTER, message, zRegisterReply);
    this.registrations++;
    this.#accept(reply.reign);
    for (const member of reply.members) this.known.add(member);
    return reply;
  }

  async report(pageSize = 2): Promise<void> {
    const entries = [...this.blocks.values()];
    const pages = Math.max(1, Math.ceil(entries.length / pageSize));
    for (let page = 0; page < pages; page++) {
      const message = {
        server: this.id,
        incarnation: this.incarnation,
        promise: this.promise,
        page,
        last: page === pages - 1,
        sequence: this.#sequence,
      };
      const part = encodeBlockEntries(entries.slice(page * pageSize, (page + 1) * pageSize));
      await this.#control(Op.REPORT, message, zEmpty, part);
    }
    this.#registered = true;
  }

  /** Asks for a block and creates it on itself. @param on and on these */
  async openBlock(on: readonly FakeDataServer[] = []): Promise<OpenBlockReply> {
    const ask = { server: this.id, incarnation: this.incarnation, avoid: [] };
    const reply = await this.#control(Op.OPEN_BLOCK, ask, zOpenBlockReply);
    const members = reply.members.map(({ id }) => id);
    for (const server of [this, ...on])
      if (members.includes(server.id))
        server.put(entryOf({ block: reply.block, epoch: reply.version.epoch, n: reply.version.n, members }));
    return reply;
  }

  async endSession(block: BlockId): Promise<void> {
    const message = { server: this.id, block, session: 1, reason: 'full', failed: [] };
    await this.#control(Op.END_SESSION, message, zEmpty);
  }

  /** A new process on the same mount: what was open is recovered. */
  restart(): void {
    this.incarnation++;
    this.pid += 100;
    this.#registered = false;
    this.#sequence = 0;
    for (const entry of this.blocks.values())
      if (entry.state === BlockState.OPEN) this.put({ ...entry, state: BlockState.RECOVERED });
  }

  async close(): Promise<void> {
    await this.#peers.close();
    await this.#server?.close();
  }

  #accept(reign: Reign): void {
    if (compareReigns(reign, this.promise) < 0)
      throw new Error(`a reign of ${reign.epoch} after ${this.promise.epoch}`);
    this.promise = reign;
  }

  async #control<T>(op: number, message: object, schema: z.ZodType<T>, payload?: Buffer): Promise<T> {
    const reply = await this.#peers.callControl(
      this.#nameserver(),
      op,
      message,
      schema,
      payload === undefined ? undefined : [payload],
    );
    return reply.message;
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
