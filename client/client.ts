import { isTfsError, TfsError } from '../common/errors.ts';
import type { BlockId, HostPort, Millis, ServerId } from '../common/ids.ts';
import type { Log } from '../common/log.ts';
import { type DecodedName, decodeName, encodeName } from '../common/name.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';
import type { Changes } from '../common/wire/changes.ts';
import type { ClusterMap } from '../common/wire/control.ts';
import {
  type CheckReply,
  MediaType,
  Mutation,
  PRIVATE_BIT,
  type ReadReply,
} from '../common/wire/messages.ts';
import type { Caller } from './caller.ts';
import { type ChangesAsk, changesOn } from './changes.ts';
import { ClusterMapCache } from './cluster-map.ts';
import { type Fingerprint, fingerprint } from './fingerprint.ts';
import { Hedging } from './hedging.ts';
import { Locations } from './locations.ts';
import { Mutator } from './mutator.ts';
import { NameServers } from './nameservers.ts';
import { Picture, pieceEnd } from './picture.ts';
import { Pinging } from './pinging.ts';
import { Preference } from './preference.ts';
import { type PictureKey, Reader, type ReadPolicy } from './reader.ts';
import { ServerHealth } from './server-health.ts';
import { ServerPace } from './server-pace.ts';
import { Writer } from './writer.ts';

export interface TfsClientOptions {
  /** The wire, `Peers` in production; the caller of `open` closes it after the client. */
  readonly peers: Caller;
  readonly nameservers: readonly HostPort[];
  /** 32 bytes; the same for every client of the cluster, or equal contents do not meet. */
  readonly rendezvousKey: Buffer;
  /** 1..9: second character of every name. */
  readonly clusterDigit: number;
  /** 32 hex digits: servers of another cluster are refused. */
  readonly clusterUuid?: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** `available` when absent. */
  readonly reads?: ReadPolicy;
  /** Told about what the client survived: for metrics. */
  readonly events?: Partial<ClientEvents>;
}

export interface ClientEvents {
  /** A replica failed its checksums; another one was asked. */
  corrupt(server: ServerId, block: BlockId): void;
  /** A write was sent to another server, or again. */
  retry(): void;
  /** A read was put to a second replica, because the first one was late. */
  hedge(): void;
}

export interface PutOptions {
  /** 16 bytes: a repeat with the same one is stored once. Random when absent. */
  readonly opId?: Buffer;
  readonly mediaType?: MediaType;
  /**
   * Gateways serve it to those alone who show a signature. It has a record of its own: whoever stores the same bytes does not
   * learn that they are there.
   */
  readonly isPrivate?: boolean;
  /** From `suffixHash` of the name codec; 0 for none. */
  readonly suffixHash?: number;
  /** Store a copy of its own even where the same bytes are there. */
  readonly noDedup?: boolean;
  /** Of the payload, when it is known already. */
  readonly fingerprint?: Fingerprint;
}

export interface Stored {
  /** 18 characters. */
  readonly name: string;
  readonly key: PictureKey;
  readonly size: number;
  readonly sha1: Buffer;
  readonly mediaType: MediaType;
  readonly isPrivate: boolean;
  readonly mtimeMs: Millis;
  readonly deduplicated: boolean;
  /** An earlier request with this opId stored it; nothing was written now. */
  readonly replayed: boolean;
  /** Where it is durable now. */
  readonly members: readonly ServerId[];
  readonly targetReplicas: number;
}

export interface GetOptions {
  /** First byte; 0 when absent. */
  readonly offset?: number;
  /** Bytes, cut at the end; all when absent. */
  readonly length?: number;
  /** Also when it is deleted or hidden. */
  readonly force?: boolean;
}

const READY_RETRY_MS = 100;

/**
 * Stores and reads pictures in one cluster. Every method may be called at any time between `open` and `close`, any
 * number at once. Errors are TfsError; those whose code is retryable say "not now", never "not there".
 *
 * A name is given as its 18 characters, with or without a suffix, or as its decoded parts. Suffixes are not compared
 * here: the facts carry the stored one's hash.
 */
export class TfsClient {
  readonly clusterDigit: number;
  readonly #options: TfsClientOptions;
  readonly #map: ClusterMapCache;
  readonly #reader: Reader;
  readonly #writer: Writer;
  readonly #mutator: Mutator;
  #closed = false;

  /** Starts to read the cluster map and does not wait for it: see {@link ready}. */
  static async open(options: TfsClientOptions): Promise<TfsClient> {
    return new TfsClient(options);
  }

  private constructor(options: TfsClientOptions) {
    this.#options = options;
    this.clusterDigit = options.clusterDigit;
    const { peers: caller, clock, random, log, events = {} } = options;
    const nameservers = new NameServers(caller, options.nameservers, clock, random);
    const clusterUuid = options.clusterUuid;
    const map = ClusterMapCache.open({
      nameservers,
      clock,
      log,
      ...(clusterUuid === undefined ? {} : { clusterUuid }),
    });
    const locations = new Locations(nameservers, map, clock);
    const pinging = new Pinging(caller, map);
    const health = new ServerHealth(clock, random, (server) => pinging.ping(server));
    const pace = new ServerPace(clock, (server) => pinging.pingOthers(server));
    pinging.onAnswer = (server) => pace.heard(server);
    const preference = new Preference(map, health, pace);
    const parts = { caller, map, locations, health, pace, preference, pinging, clock, random };
    this.#map = map;
    this.#reader = new Reader({
      ...parts,
      hedging: new Hedging(
        clock,
        (server) => pace.isSilent(server),
        () => events.hedge?.(),
      ),
      policy: options.reads ?? 'available',
      onCorrupt: (server, block) => events.corrupt?.(server, block),
    });
    this.#writer = new Writer(
      { ...parts, rendezvousKey: options.rendezvousKey, onRetry: () => events.retry?.() },
      new ServerHealth(clock, random),
    );
    this.#mutator = new Mutator(parts);
  }

  /** Waits until the cluster map has been read. @returns false when that did not happen within `withinMs` */
  async ready(withinMs: number): Promise<boolean> {
    const { clock, log } = this.#options;
    let expired = false;
    const timer = clock.after(withinMs, () => {
      expired = true;
    });
    while (!this.#closed && !expired && this.#map.current === undefined) {
      await this.#map.refresh().catch((err: unknown) => log.debug({ err }, 'waiting for a NameServer'));
      if (this.#map.current === undefined) await clock.sleep(Math.min(withinMs, READY_RETRY_MS));
    }
    timer.cancel();
    return this.#map.current !== undefined;
  }

  /** The map as last read, perhaps long ago; undefined before the first time. */
  get clusterMap(): ClusterMap | undefined {
    return this.#map.current;
  }

  /** Whether the last map showed enough servers for a write. */
  get isWritable(): boolean {
    return this.#map.writeSetPossible;
  }

  /** @throws TfsError UNAVAILABLE when no NameServer answers */
  readClusterMap(): Promise<ClusterMap> {
    this.#assertOpen();
    return this.#map.refresh();
  }

  /**
   * Resolves when the picture is durable on every member of its write set.
   * @param payload not empty; must not change until the promise settles
   */
  async put(payload: Buffer | readonly Buffer[], options: PutOptions = {}): Promise<Stored> {
    this.#assertOpen();
    const pieces = Buffer.isBuffer(payload) ? [payload] : (payload as readonly Buffer[]);
    const print = options.fingerprint ?? fingerprint(pieces);
    if (print.size === 0) throw new TfsError('EMPTY_BODY', 'an empty picture cannot be stored');
    const mediaType = options.mediaType ?? MediaType.UNKNOWN;
    const isPrivate = options.isPrivate ?? false;
    const request = {
      ...print,
      opId: options.opId ?? this.newOpId(),
      suffixHash: options.suffixHash ?? 0,
      mediaType: isPrivate ? mediaType | PRIVATE_BIT : mediaType,
      noDedup: isPrivate || (options.noDedup ?? false),
    };
    const reply = await this.#writer.put(request, pieces);
    const key = { block: reply.block, fileId: reply.fileId, cookie: reply.cookie };
    return {
      name: this.nameOf(key),
      key,
      size: print.size,
      sha1: print.sha1,
      mediaType,
      isPrivate,
      mtimeMs: reply.mtimeMs as Millis,
      deduplicated: reply.deduplicated,
      replayed: reply.replayed,
      members: reply.members,
      targetReplicas: reply.targetReplicas,
    };
  }

  /** Resolves with the facts and the first verified piece. @throws TfsError NOT_FOUND and others of {@link Reader.read} */
  async get(name: string | PictureKey, options: GetOptions = {}): Promise<Picture> {
    const key = this.keyOf(name);
    const { offset = 0, length = Number.POSITIVE_INFINITY, force = false } = options;
    const end = offset + length;
    const wanted = { offset, length: Math.min(end, pieceEnd(offset)) - offset, force };
    const first = await this.#reader.read(key, wanted);
    return new Picture(this.#reader, { key, first, end, force });
  }

  /** The facts alone. */
  async stat(name: string | PictureKey, options: { readonly force?: boolean } = {}): Promise<ReadReply> {
    const key = this.keyOf(name);
    const piece = await this.#reader.read(key, { offset: 0, length: 0, force: options.force ?? false });
    return piece.facts;
  }

  /** The flags of a name whose bytes the caller holds: from the memory of a server, without its disk. */
  async check(name: string | PictureKey): Promise<CheckReply> {
    return this.#reader.check(this.keyOf(name));
  }

  /** Deletes it; a repeat, also after its bytes were purged, succeeds. Undone by {@link undelete} for a while. */
  async remove(name: string | PictureKey, opId?: Buffer): Promise<void> {
    try {
      await this.#mutate(name, Mutation.DELETE, opId);
    } catch (error) {
      if (!isTfsError(error, 'GONE')) throw error;
    }
  }

  /** @throws TfsError GONE after its bytes were purged */
  undelete(name: string | PictureKey, opId?: Buffer): Promise<void> {
    return this.#mutate(name, Mutation.UNDELETE, opId);
  }

  hide(name: string | PictureKey, opId?: Buffer): Promise<void> {
    return this.#mutate(name, Mutation.HIDE, opId);
  }

  reveal(name: string | PictureKey, opId?: Buffer): Promise<void> {
    return this.#mutate(name, Mutation.REVEAL, opId);
  }

  /**
   * Which names changed their state, as one DataServer knows; some at a time.
   * @throws TfsError UNAVAILABLE when it is not in the cluster map or does not answer
   */
  changesOn(server: ServerId, ask: ChangesAsk): Promise<Changes> {
    this.#assertOpen();
    return changesOn({ caller: this.#options.peers, map: this.#map }, server, ask);
  }

  newOpId(): Buffer {
    const { random } = this.#options;
    const opId = Buffer.allocUnsafe(16);
    for (let at = 0; at < 16; at += 4) opId.writeUInt32LE(random.u32(), at);
    return opId;
  }

  nameOf(key: PictureKey): string {
    return encodeName({ ...key, clusterDigit: this.clusterDigit });
  }

  /** @throws TfsError BAD_NAME when it is not a name, NOT_FOUND when it is one of another cluster */
  parse(name: string): DecodedName {
    const parts = decodeName(name);
    if (parts === undefined)
      throw new TfsError('BAD_NAME', 'this is not a name: 18 characters that begin with T are one');
    if (parts.clusterDigit !== this.clusterDigit)
      throw new TfsError('NOT_FOUND', 'there is no such picture', {
        details: { clusterDigit: parts.clusterDigit },
      });
    return parts;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#map.close();
  }

  async #mutate(name: string | PictureKey, kind: Mutation, opId = this.newOpId()): Promise<void> {
    await this.#mutator.mutate(this.keyOf(name), kind, opId);
  }

  keyOf(name: string | PictureKey): PictureKey {
    this.#assertOpen();
    return typeof name === 'string' ? this.parse(name) : name;
  }

  #assertOpen(): void {
    if (this.#closed) throw new TfsError('CLOSED', 'the client was closed');
  }
}
