import type { Caller, CallReply } from '../../client/caller.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { crc32, crc32Of } from '../../common/crc.ts';
import { type ErrorCode, TfsError } from '../../common/errors.ts';
import {
  ALIAS_BIT,
  type BlockId,
  type Cookie,
  epochOf,
  type FileId,
  type HostPort,
  type ServerId,
} from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import type { Clock, Timer } from '../../common/seams/clock.ts';
import { type ClusterMap, encodeControl, zClusterMap } from '../../common/wire/control.ts';
import { Keyring } from '../../common/wire/keys.ts';
import {
  decodeCheck,
  decodeLocate,
  decodeMutate,
  decodePut,
  decodeRead,
  encodeCheckReply,
  encodeLocateReply,
  encodePutReply,
  encodeReadReply,
  isPrivate,
  LocateState,
  Mutation,
  NameFlag,
  Op,
  type PutRequest,
} from '../../common/wire/messages.ts';
import { RpcServer } from '../../common/wire/rpc-server.ts';

export const FAKE_UUID = 'fa'.repeat(16);
export const FAKE_SECRET = Buffer.alloc(32, 'fake cluster');

interface FakeRecord {
  readonly cookie: Cookie;
  readonly request: PutRequest;
  readonly payload: Buffer;
  readonly mtimeMs: number;
  readonly alias: boolean;
  flags: number;
}

interface FakeBlock {
  members: ServerId[];
  opsPrimary: ServerId;
  readonly records: Map<FileId, FakeRecord>;
}

/** One DataServer and what is wrong with it. */
export class FakeServer {
  readonly id: ServerId;
  address: HostPort;
  /** Every call fails with CONNECTION_LOST. */
  down = false;
  /** Nothing is answered before it settles, as by a process that was stopped. */
  stopped: Promise<void> | undefined;
  /** What the cluster map says of its disk. */
  io: ClusterMap['servers'][number]['io'] = { healthy: true, readOnly: false, probeMs: 1 };
  /** What its answers are worth: "unsure" says DONT_KNOW to everything it would otherwise not find. */
  mode: 'current' | 'provisional' | 'unsure' = 'current';
  /** Answers every read with CORRUPT, or with a flipped byte that the checksum gives away. */
  damage: 'none' | 'told' | 'untold' = 'none';
  /** Flags that this one believes in, where it is behind. */
  readonly staleFlags = new Map<FileId, number>();
  refusePut: TfsError | undefined;
  /** Runs before each call of that op; may throw or wait. */
  before: ((op: number) => void | Promise<void>) | undefined;
  readonly calls: number[] = [];

  constructor(id: number) {
    this.id = id as ServerId;
    this.address = { host: 'fake', port: id };
  }

  count(op: number): number {
    return this.calls.filter((call) => call === op).length;
  }
}

export class FakeNameServer {
  address: HostPort;
  leader: boolean;
  epoch = 1;
  down = false;
  /** Nothing is answered before it settles, as by a process that was stopped. */
  stopped: Promise<void> | undefined;
  /** Knows no block and says so. */
  unsure = false;
  readonly calls: number[] = [];

  constructor(index: number) {
    this.address = { host: 'fake', port: 9000 + index };
    this.leader = index === 0;
  }
}

type Reply = { readonly header: Buffer; readonly payload?: readonly Buffer[] };

/** A cluster in memory that speaks the real messages: in this process through {@link caller}, or over TCP. */
export class FakeCluster implements Caller {
  readonly servers: FakeServer[];
  readonly nameservers: FakeNameServer[];
  readonly blocks = new Map<BlockId, FakeBlock>();
  readonly keyring = Keyring.ofSecret(FAKE_SECRET);
  mapVersion = 1;
  minWrite = 2;
  readonly #clock: Clock;
  #aliases = 0;
  #rpc: RpcServer[] = [];

  /** @param options.clock counts deadlines of calls in this process */
  constructor(options: { servers?: number; nameservers?: number; clock?: Clock } = {}) {
    this.#clock = options.clock ?? nodeClock;
    this.servers = Array.from({ length: options.servers ?? 3 }, (_, i) => new FakeServer(i + 1));
    this.nameservers = Array.from({ length: options.nameservers ?? 1 }, (_, i) => new FakeNameServer(i));
    for (const server of this.servers) {
      const others = this.servers.filter((other) => other !== server).map((other) => other.id);
      const block: FakeBlock = { members: [server.id, ...others], opsPrimary: server.id, records: new Map() };
      this.blocks.set((0x10000 + server.id) as BlockId, block);
    }
  }

  get nameserverAddresses(): HostPort[] {
    return this.nameservers.map((ns) => ns.address);
  }

  server(id: number): FakeServer {
    return this.servers[id - 1]!;
  }

  /** Listens on the loopback address from here on. */
  async listen(): Promise<void> {
    for (const node of [...this.servers, ...this.nameservers]) {
      const rpc = await RpcServer.listen({
        net: nodeNet,
        clock: nodeClock,
        random: nodeRandom,
        keyring: this.keyring,
        address: { host: '127.0.0.1', port: 0 },
        id: 'fake',
        log: silentLog,
      });
      const ops =
        node instanceof FakeServer ? [Op.PUT, Op.READ, Op.CHECK, Op.MUTATE] : [Op.LOCATE, Op.CLUSTER_MAP];
      for (const op of ops)
        rpc.handle(op, ['gateway'], ({ header, payload }) => this.#answer(node, op, header, payload));
      node.address = rpc.address;
      this.#rpc.push(rpc);
    }
  }

  async close(): Promise<void> {
    for (const rpc of this.#rpc) await rpc.close();
  }

  async call(
    address: HostPort,
    op: number,
    header: Buffer,
    payload: readonly Buffer[] = [],
    deadlineMs = 5000,
  ): Promise<CallReply> {
    const node = [...this.servers, ...this.nameservers].find((n) => n.address.port === address.port);
    if (node === undefined) throw new TfsError('CONNECTION_LOST', 'nobody is there');
    let timer: Timer | undefined;
    const expired = new Promise<never>((_, reject) => {
      timer = this.#clock.after(deadlineMs, () => reject(new TfsError('DEADLINE', 'no answer in time')));
    });
    try {
      const reply = await Promise.race([this.#answer(node, op, header, Buffer.concat(payload)), expired]);
      return { header: reply.header, payload: Buffer.concat(reply.payload ?? []) };
    } finally {
      timer?.cancel();
    }
  }

  async #answer(
    node: FakeServer | FakeNameServer,
    op: number,
    header: Buffer,
    payload: Buffer,
  ): Promise<Reply> {
    node.calls.push(op);
    if (node.down) throw new TfsError('CONNECTION_LOST', 'the fake is down');
    await node.stopped;
    if (op === Op.PING) return { header: Buffer.alloc(0) };
    if (node instanceof FakeNameServer)
      return op === Op.LOCATE ? this.#locate(node, header) : { header: encodeControl(this.#map(node)) };
    await node.before?.(op);
    switch (op) {
      case Op.PUT:
        return this.#put(node, decodePut(header), payload);
      case Op.READ:
        return this.#read(node, header);
      case Op.CHECK:
        return this.#check(node, header);
      case Op.MUTATE:
        return this.#mutate(node, header);
      default:
        throw new TfsError('PROTOCOL', `the fake has no op ${op}`);
    }
  }

  #put(server: FakeServer, request: PutRequest, payload: Buffer): Reply {
    if (server.refusePut !== undefined) throw server.refusePut;
    const block = (0x10000 + server.id) as BlockId;
    const { records, members } = this.blocks.get(block)!;
    if (crc32(payload) !== request.dataCrc || payload.length !== request.size)
      throw new TfsError('DIGEST_MISMATCH', 'the payload is not what its checksum says');
    const reply = (fileId: FileId, record: FakeRecord, replayed: boolean): Reply => ({
      header: encodePutReply({
        block,
        fileId,
        cookie: record.cookie,
        mtimeMs: record.mtimeMs,
        deduplicated: record.alias,
        replayed,
        targetReplicas: 3,
        members,
      }),
    });
    for (const [fileId, record] of records)
      if (record.request.opId.equals(request.opId)) return reply(fileId, record, true);
    const same = [...records.values()].find(
      (record) =>
        !record.alias &&
        record.flags === 0 &&
        record.request.sha1.equals(request.sha1) &&
        record.request.suffixHash === request.suffixHash &&
        isPrivate(record.request.mediaType) === isPrivate(request.mediaType),
    );
    const alias = same !== undefined && !request.noDedup;
    const fileId = (alias ? ALIAS_BIT + ++this.#aliases : records.size) as FileId;
    const cookie = (nodeRandom.u32() >>> 1) as Cookie;
    const kept = { ...request, sha1: Buffer.from(request.sha1), opId: Buffer.from(request.opId) };
    const record = {
      cookie,
      request: kept,
      payload: Buffer.from(payload),
      mtimeMs: Date.now(),
      alias,
      flags: 0,
    };
    records.set(fileId, record);
    return reply(fileId, record, false);
  }

  #read(server: FakeServer, header: Buffer): Reply {
    const { block, fileId, cookie, offset, length, force } = decodeRead(header);
    const record = this.#find(server, block, fileId);
    if (record.cookie !== cookie) throw this.#missing(server);
    const flags = server.staleFlags.get(fileId) ?? record.flags;
    if ((flags & NameFlag.PURGED) !== 0) throw this.#missing(server);
    if (!force && flags !== 0) throw this.#missing(server);
    if (server.damage === 'told') throw new TfsError('CORRUPT', 'checksum mismatch');
    const end = Math.min(record.payload.length, offset + length);
    let payload = Buffer.from(record.payload.subarray(Math.min(offset, end), end));
    const payloadCrc = crc32Of([payload]);
    if (server.damage === 'untold' && payload.length > 0) {
      payload = Buffer.from(payload);
      payload[payload.length >> 1]! ^= 1;
    }
    const { size, dataCrc, suffixHash, mediaType, sha1 } = record.request;
    const facts = { size, dataCrc, suffixHash, mediaType, sha1, payloadCrc, offset, mtimeMs: record.mtimeMs };
    const provisional = server.mode !== 'current';
    return {
      header: encodeReadReply({ ...facts, nameFlags: flags, provisional, alias: record.alias }),
      payload: [payload],
    };
  }

  #check(server: FakeServer, header: Buffer): Reply {
    const { block, fileId } = decodeCheck(header);
    const record = this.#find(server, block, fileId);
    const nameFlags = server.staleFlags.get(fileId) ?? record.flags;
    return { header: encodeCheckReply({ nameFlags, provisional: server.mode !== 'current' }) };
  }

  #mutate(server: FakeServer, header: Buffer): Reply {
    const { block, fileId, cookie, kind } = decodeMutate(header);
    if (this.blocks.get(block)?.opsPrimary !== server.id)
      throw new TfsError('NOT_LEADER', 'another server orders the operations of this block');
    const record = this.#find(server, block, fileId);
    if (record.cookie !== cookie) throw this.#missing(server);
    if ((record.flags & NameFlag.PURGED) !== 0) throw new TfsError('GONE', 'the bytes were purged');
    if (kind === Mutation.DELETE) record.flags |= NameFlag.DELETED;
    if (kind === Mutation.UNDELETE) record.flags &= ~NameFlag.DELETED;
    if (kind === Mutation.HIDE) record.flags |= NameFlag.HIDDEN;
    if (kind === Mutation.REVEAL) record.flags &= ~NameFlag.HIDDEN;
    return { header: encodeCheckReply({ nameFlags: record.flags, provisional: false }) };
  }

  #find(server: FakeServer, block: BlockId, fileId: FileId): FakeRecord {
    const found = this.blocks.get(block);
    if (found === undefined || !found.members.includes(server.id))
      throw new TfsError('DONT_KNOW', 'this server does not hold the block');
    const record = found.records.get(fileId);
    if (record === undefined) throw this.#missing(server);
    return record;
  }

  #missing(server: FakeServer): TfsError {
    const code: ErrorCode = server.mode === 'current' ? 'NOT_FOUND' : 'DONT_KNOW';
    return new TfsError(code, 'no such record');
  }

  #locate(ns: FakeNameServer, header: Buffer): Reply {
    const locations = decodeLocate(header).map((block) => {
      const found = ns.unsure ? undefined : this.blocks.get(block);
      if (found === undefined) {
        const state = ns.leader && !ns.unsure ? LocateState.ABSENT : LocateState.DONT_KNOW;
        return { block, state, opsPrimary: 0, members: [] };
      }
      return { block, state: LocateState.FOUND, opsPrimary: found.opsPrimary, members: found.members };
    });
    return { header: encodeLocateReply({ mapVersion: this.mapVersion, locations }) };
  }

  #map(ns: FakeNameServer): ClusterMap {
    return {
      clusterUuid: FAKE_UUID,
      clusterDigit: 1,
      reign: { epoch: epochOf(ns.epoch), nameserver: this.nameservers.indexOf(ns) },
      leader: ns.leader,
      completeView: true,
      missing: [],
      inStep: 3,
      safeMode: false,
      mapVersion: this.mapVersion,
      replicas: 3,
      minWrite: this.minWrite,
      servers: this.servers.map((server) => ({
        id: server.id,
        address: server.address,
        adminPort: 1,
        state: server.down ? 'down' : 'up',
        capacityBytes: 1e12,
        domain: `d${server.id}`,
        pid: 1,
        incarnation: 1 as ClusterMap['servers'][number]['incarnation'],
        mount: '/fake',
        space: { totalBytes: 1e12, freeBytes: 1e12, usedBytes: 0 },
        io: server.io,
        heartbeatAgeMs: 1,
        blocks: 1,
        openBlocks: 1,
        files: 0,
        aliases: 0,
        suspects: [],
        lostRecords: 0,
        leaving: false,
        drained: false,
        clockAheadMs: 0,
      })),
      blocks: zClusterMap.shape.blocks.parse({
        total: 3,
        open: 3,
        sealed: 0,
        awaitingSeal: 0,
        underReplicated: 0,
        suspect: 0,
      }),
    };
  }
}
