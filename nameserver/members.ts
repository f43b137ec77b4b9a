import { z } from 'zod';
import { TfsError } from '../common/errors.ts';
import { type BlockId, type HostPort, type Incarnation, type ServerId, serverId } from '../common/ids.ts';
import { PROVISIONAL_AFTER_MS, SERVER_DOWN_AFTER_MS } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';
import {
  compareReigns,
  type Heartbeat,
  type Member,
  type PromiseReply,
  type Register,
  type Reign,
  type ServerFigures,
  type ServerInfo,
} from '../common/wire/control.ts';
import type { ClockVote } from './agreed-time.ts';
import { type NameServerFaults, NO_FAULTS } from './faults.ts';
import { KNOWN_KEY, MEMBER_RANGE, memberKey, type NameStore, REMOVED_KEY } from './name-store.ts';
import type { Candidate } from './placement.ts';
import {
  checkRegistration,
  type MemberRecord,
  recordOf,
  sameAddress,
  withNonce,
  zMemberRecord,
} from './registration.ts';
import { TableStream } from './table-stream.ts';

/** A DataServer that the configuration names; its process need not have started yet. */
export interface ConfiguredMember {
  readonly id: ServerId;
  readonly address: HostPort;
  readonly adminPort: number;
  readonly mount: string;
  readonly domain: string;
}

/** A DataServer that registered since this NameServer started. */
export interface LiveMember {
  record: MemberRecord;
  readonly table: TableStream;
  /** The highest it has shown. */
  promise: Reign;
  /**
   * The one that the newest word about its blocks was said under. What was begun under an older reign is in it, or is
   * given up (see `dataserver/replica.ts`): so only with it a new leader knows every block.
   */
  tablePromise: Reign | undefined;
  /** Monotonic: when it first showed that one. */
  promisedAtMs: number;
  /** The epoch it was last told: only a promise of this one was made to this NameServer, in this life. */
  toldEpoch: number;
  /** Monotonic: when a message of it was last read. */
  heardAtMs: number;
  /**
   * Monotonic: the newest word about its blocks was sent after this. Not the same as when it was read: a process that
   * was stopped finds old messages in its sockets.
   */
  provenAtMs: number;
  /** Monotonic: when it last said that its disk is healthy; first, when it registered. */
  wellAtMs: number;
  space: Register['space'];
  io: Heartbeat['io'];
  suspects: ReadonlySet<ServerId>;
  counts: { openBlocks: number; blocks: number; files: number; aliases: number; lostRecords: number };
  leaving: Heartbeat['leaving'];
  scrub: Heartbeat['scrub'];
  /** For how many milliseconds it has not read these replicas through. */
  overdue: ReadonlyMap<BlockId, number>;
  use: Heartbeat['use'];
  /** By how much its clock is ahead of this one, as of its last heartbeat, ms. */
  clockAheadMs: number;
  /** By how much its clock was ahead of the monotonic one of this process then, ms; undefined before the first. */
  clockLeadMs: number | undefined;
  /** The highest that its disk has shown. What a restart of the NameServer forgets of it, servers that run show again. */
  diskAge: number | undefined;
}

const zKnown = z.array(z.number().transform(serverId));
const NOT_PROBED: Heartbeat['io'] = { healthy: true, readOnly: false, probeMs: 0 };
const NO_COUNTS = { openBlocks: 0, blocks: 0, files: 0, aliases: 0, lostRecords: 0 };
const NOTHING_OVERDUE: LiveMember['overdue'] = new Map();
const NO_SPACE = { totalBytes: 0, freeBytes: 0, usedBytes: 0 };
/** In seconds of service: what a NameServer may forget of it where the DataServer dies before the NameServer starts again. */
const DISK_AGE_KEPT_EVERY = 5;
/** Says "nowhere" on the wire, where an address needs a port. */
const NOWHERE: HostPort = { host: 'unknown', port: 1 };

export interface MembersDeps {
  readonly store: NameStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly configured: readonly ConfiguredMember[];
  readonly faults?: NameServerFaults;
}

/** The DataServers of the cluster: which are known, which are alive, what each last said of itself. */
export class Members {
  /** Whether an operator wants the server emptied. */
  isDrained: (server: ServerId) => boolean = () => false;
  readonly #store: NameStore;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #configured: ReadonlyMap<ServerId, ConfiguredMember>;
  readonly #faults: NameServerFaults;
  readonly #records: Map<ServerId, MemberRecord>;
  readonly #known: Set<ServerId>;
  readonly #removed: Set<ServerId>;
  readonly #live = new Map<ServerId, LiveMember>();
  /** As last noticed by {@link noticeStates}. */
  #states = new Map<ServerId, ServerInfo['state']>();
  readonly #openedAtMs: number;
  readonly #confirmedAtMs = new Map<ServerId, number>();
  #writing: Promise<unknown> = Promise.resolve();
  #isKeepingAges = false;

  private constructor(
    deps: MembersDeps,
    records: readonly MemberRecord[],
    { known, removed }: { readonly known: readonly ServerId[]; readonly removed: readonly ServerId[] },
  ) {
    this.#store = deps.store;
    this.#clock = deps.clock;
    this.#openedAtMs = deps.clock.monotonic();
    this.#random = deps.random;
    this.#faults = deps.faults ?? NO_FAULTS;
    this.#configured = new Map(deps.configured.map((member) => [member.id, member]));
    this.#records = new Map(records.map((record) => [record.id, record]));
    this.#removed = new Set(removed);
    const heardOf = [...this.#configured.keys(), ...this.#records.keys(), ...known];
    this.#known = new Set(heardOf.filter((id) => !this.#removed.has(id)));
    this.noticeStates();
  }

  static async open(deps: MembersDeps): Promise<Members> {
    const records: MemberRecord[] = [];
    for await (const record of deps.store.readAll(MEMBER_RANGE, zMemberRecord as z.ZodType<MemberRecord>))
      records.push(record);
    const known = await deps.store.read(KNOWN_KEY, zKnown as z.ZodType<ServerId[]>);
    const removed = await deps.store.read(REMOVED_KEY, zKnown as z.ZodType<ServerId[]>);
    return new Members(deps, records, { known: known ?? [], removed: removed ?? [] });
  }

  /** Every DataServer that was ever heard of and not removed, lowest first. */
  get known(): ServerId[] {
    return [...this.#known].sort((a, b) => a - b);
  }

  /** Taken out of the cluster, for good: whoever still names them changes nothing. Lowest first. */
  get removed(): ServerId[] {
    return [...this.#removed].sort((a, b) => a - b);
  }

  isRemoved(server: ServerId): boolean {
    return this.#removed.has(server);
  }

  /**
   * Takes servers out of the known ones; resolves when durable. It cannot be taken back: what names them may come from
   * anywhere and from any time, and only a set that never shrinks means the same to everyone.
   *
   * @returns those that were not removed before
   */
  remove(ids: readonly ServerId[]): Promise<ServerId[]> {
    if (ids.every((id) => this.#removed.has(id))) return Promise.resolve([]);
    return this.#serially(async () => {
      const fresh = ids.filter((id) => !this.#removed.has(id));
      const all = [...this.#removed, ...fresh].sort((a, b) => a - b);
      await this.#store.write(REMOVED_KEY, all, 'which DataServers are removed');
      for (const id of fresh) {
        this.#removed.add(id);
        this.#known.delete(id);
        this.#live.delete(id);
      }
      return fresh;
    });
  }

  /**
   * Resolves when the registration is durable, which is when it may be answered.
   *
   * @returns whether clients will see another server: its address, incarnation, domain or capacity
   * @throws TfsError REFUSED see {@link checkRegistration}; IO, DISK_FULL
   */
  register(register: Register, clusterUuid: string): Promise<{ live: LiveMember; isChanged: boolean }> {
    const { server } = register;
    return this.#serially(async () => {
      if (this.#removed.has(server))
        throw new TfsError(
          'REFUSED',
          `server ${server} was taken out of the cluster ("tfs remove-server"), and others went on without it: take it ` +
            `out of mounts[] in config.json. Pictures that only ${register.mount} has: tfs salvage. To use the disk ` +
            'again, empty it and give it an "id" that was never used',
        );
      const before = this.#withAge(server);
      const heardAgoMs = this.heardAgoMs(server);
      try {
        checkRegistration(register, {
          clusterUuid,
          before: before && { record: before, heardAgoMs },
          faults: this.#faults,
        });
      } catch (error) {
        // It may come again after a restart of this process, to be refused again.
        await this.#keepAges();
        throw error;
      }
      const nonces = withNonce(before?.nonces, register.nonce, this.#random.bytes(4));
      const record = recordOf(register, nonces, before?.diskAge);
      await this.#store.write(memberKey(server), record, `the registration of server ${server}`);
      this.#records.set(server, record);
      this.#known.add(server);
      // The same process again: its disk is as it was.
      const known = this.#live.get(server);
      const now = this.#clock.monotonic();
      const isSame = known?.record.incarnation === record.incarnation;
      const { io, wellAtMs } = isSame ? known : { io: NOT_PROBED, wellAtMs: now };
      const live: LiveMember = {
        record,
        table: new TableStream(),
        promise: register.promise,
        promisedAtMs:
          known !== undefined && compareReigns(known.promise, register.promise) === 0
            ? known.promisedAtMs
            : now,
        tablePromise: undefined,
        toldEpoch: -1,
        heardAtMs: now,
        provenAtMs: Number.NEGATIVE_INFINITY,
        wellAtMs,
        space: register.space,
        io,
        suspects: new Set(),
        counts: NO_COUNTS,
        leaving: undefined,
        scrub: undefined,
        overdue: NOTHING_OVERDUE,
        use: undefined,
        clockAheadMs: known?.clockAheadMs ?? 0,
        clockLeadMs: known?.clockLeadMs,
        diskAge: record.diskAge,
      };
      const isChanged =
        before === undefined ||
        before.incarnation !== record.incarnation ||
        before.domain !== record.domain ||
        before.capacityBytes !== record.capacityBytes ||
        !sameAddress(before.address, record.address);
      this.#live.set(server, live);
      return { live, isChanged };
    });
  }

  /** Adds to the known members; resolves when durable. */
  learn(ids: Iterable<ServerId>): Promise<void> {
    const fresh = [...ids].filter((id) => !this.#known.has(id) && !this.#removed.has(id));
    if (fresh.length === 0) return Promise.resolve();
    return this.#serially(async () => {
      for (const id of fresh) if (!this.#removed.has(id)) this.#known.add(id);
      await this.#store.write(KNOWN_KEY, this.known, 'the list of DataServers');
    });
  }

  /** What time DataServers have, as they said last; those too that are away, or were not heard yet. */
  *clockVotes(): Iterable<ClockVote> {
    for (const id of this.#known) {
      const { address } = this.#records.get(id) ?? this.#configured.get(id) ?? {};
      yield { host: address?.host, leadMs: this.#live.get(id)?.clockLeadMs };
    }
  }

  /** To be echoed by DataServers: what carries it was sent after now. */
  token(): number {
    return this.#clock.monotonic();
  }

  /**
   * A message of a registered server.
   *
   * @param said in a word about its blocks
   * @throws TfsError UNREGISTERED when this process of it has not registered since this NameServer started
   */
  hear(
    server: ServerId,
    incarnation: Incarnation,
    said: { readonly promise?: Reign; readonly echo?: number | undefined } = {},
  ): LiveMember {
    const live = this.#live.get(server);
    if (live === undefined || live.record.incarnation !== incarnation)
      throw new TfsError(
        'UNREGISTERED',
        `server ${server} (incarnation ${incarnation}) has to register first`,
      );
    const now = this.#clock.monotonic();
    live.heardAtMs = now;
    // A token of the future is of another life of the machine.
    if (said.echo !== undefined && said.echo <= now) live.provenAtMs = Math.max(live.provenAtMs, said.echo);
    if (said.promise !== undefined) {
      this.#promised(live, said.promise, now);
      live.tablePromise = said.promise;
    }
    return live;
  }

  /** The answer to a PROMISE: it tells nothing of blocks. */
  answered({ server, incarnation, promise }: PromiseReply): void {
    const live = this.#live.get(server);
    if (live?.record.incarnation === incarnation) this.#promised(live, promise, this.#clock.monotonic());
  }

  #promised(live: LiveMember, promise: Reign, nowMs: number): void {
    if (compareReigns(promise, live.promise) <= 0) return;
    live.promise = promise;
    live.promisedAtMs = nowMs;
  }

  get(server: ServerId): LiveMember | undefined {
    return this.#live.get(server);
  }

  /** For a command to it. @returns undefined while it is not up, or has not promised `reign` */
  reachable(server: ServerId, reign: Reign): Member | undefined {
    const live = this.#live.get(server);
    if (live === undefined || this.stateOf(server) !== 'up' || !hasPromised(live, reign)) return undefined;
    return memberOf(live.record);
  }

  /** Whether its disk took the last probe write, and all others. */
  canWrite(server: ServerId): boolean {
    const io = this.#live.get(server)?.io;
    return io?.healthy === true && !io.readOnly;
  }

  /** Where it was last, up or not. */
  address(server: ServerId): Member | undefined {
    const record = this.#records.get(server);
    return record && memberOf(record);
  }

  domainOf(server: ServerId): string {
    return this.#records.get(server)?.domain ?? this.#configured.get(server)?.domain ?? '';
  }

  /** Failure domains of all that are not to be emptied, there or away. */
  get domains(): number {
    const kept = this.known.filter((id) => !this.isDrained(id));
    return new Set(kept.map((id) => this.domainOf(id))).size;
  }

  /** This NameServer, as the leader, has just told the server that its replicas are the newest, but those it named. */
  confirmed(server: ServerId): void {
    this.#confirmedAtMs.set(server, this.#clock.monotonic());
  }

  /**
   * Monotonic: from then on the server, told nothing new, takes its replicas for current no longer. One that obeys this
   * reign listens to nobody else. One that does not may listen to an older leader, until that has to notice that its
   * view is not complete any more: {@link PROVISIONAL_AFTER_MS} after `minWrite` servers have turned away from it.
   *
   * One that has said its last word answers nobody: what comes after it has to be confirmed anew.
   *
   * @returns Infinity while that cannot be told
   */
  unconfirmedFromMs(server: ServerId, reign: Reign, minWrite: number): number {
    const byMe = (this.#confirmedAtMs.get(server) ?? Number.NEGATIVE_INFINITY) + PROVISIONAL_AFTER_MS;
    const live = this.#live.get(server);
    if (live?.leaving === 'gone') return Number.NEGATIVE_INFINITY;
    if (live !== undefined && hasPromised(live, reign)) return byMe;
    const turnedAtMs = [...this.#live.values()]
      .filter((one) => hasPromised(one, reign))
      .map(({ promisedAtMs }) => promisedAtMs)
      .sort((a, b) => a - b)[minWrite - 1];
    return Math.max(byMe, (turnedAtMs ?? Number.POSITIVE_INFINITY) + 2 * PROVISIONAL_AFTER_MS);
  }

  heardAgoMs(server: ServerId): number {
    const live = this.#live.get(server);
    return live === undefined ? Number.POSITIVE_INFINITY : this.#clock.monotonic() - live.heardAtMs;
  }

  /** As {@link heardAgoMs}; of one that was not heard yet since this NameServer started, how long that is ago. */
  silentMs(server: ServerId): number {
    return Math.min(this.heardAgoMs(server), this.#clock.monotonic() - this.#openedAtMs);
  }

  /** For how long it has been saying that its disk is not healthy; 0 where it is. */
  unwellMs(server: ServerId): number {
    const live = this.#live.get(server);
    return live === undefined || live.io.healthy ? 0 : this.#clock.monotonic() - live.wellAtMs;
  }

  /** How old what the server last said may be. Infinity when that is not known. */
  provenAgoMs(server: ServerId): number {
    const live = this.#live.get(server);
    return live === undefined ? Number.POSITIVE_INFINITY : this.#clock.monotonic() - live.provenAtMs;
  }

  stateOf(server: ServerId): ServerInfo['state'] {
    const isGone = this.#live.get(server)?.leaving === 'gone';
    if (!isGone && this.heardAgoMs(server) < SERVER_DOWN_AFTER_MS) return 'up';
    return this.#records.has(server) ? 'down' : 'missing';
  }

  /** Servers that are not up, or have not reported all that they hold, or are removed. */
  get away(): ServerId[] {
    const isAway = (id: ServerId) =>
      this.stateOf(id) !== 'up' || this.#live.get(id)?.table.isCurrent !== true;
    return [...this.known.filter(isAway), ...this.#removed];
  }

  /** @returns whether a server came up or went down since the last call */
  noticeStates(): boolean {
    const now = new Map(this.known.map((id) => [id, this.stateOf(id)]));
    const isChanged =
      now.size !== this.#states.size || [...now].some(([id, state]) => this.#states.get(id) !== state);
    this.#states = now;
    return isChanged;
  }

  /**
   * Known members of which this NameServer does not know everything: silent, or not reported in full, or not since they
   * promised to `reign`. Without a reign, as for a standby, no promise is asked for.
   */
  missing(reign: Reign | undefined): ServerId[] {
    return this.known.filter((id) => !this.#hasSaidAll(id, reign));
  }

  /**
   * Whether a command under `reign` would reach the server, and what is known of its replicas was said under a promise to
   * it: no older leader changes anything there any more.
   */
  isHeld(server: ServerId, reign: Reign): boolean {
    return this.reachable(server, reign) !== undefined && this.#hasSaidAll(server, reign);
  }

  #hasSaidAll(server: ServerId, reign: Reign | undefined): boolean {
    const live = this.#live.get(server);
    const hasSpoken = live?.table.isCurrent && (reign === undefined || sameReign(live.tablePromise, reign));
    return hasSpoken === true && this.provenAgoMs(server) < PROVISIONAL_AFTER_MS;
  }

  /** Of what its disk is for, how much blocks take, in per cent; 0 while that is not known. */
  usedPercent(server: ServerId): number {
    const live = this.#live.get(server);
    return live === undefined ? 0 : (100 * live.space.usedBytes) / live.record.capacityBytes;
  }

  /** Of how many servers exactly what they hold is known. */
  get inStep(): number {
    return [...this.#live.values()].filter(({ table }) => table.isEqual).length;
  }

  candidates(reign: Reign): Candidate[] {
    return this.known.map((id) => {
      const live = this.#live.get(id);
      return {
        id,
        domain: live?.record.domain ?? '',
        freeBytes: live?.space.freeBytes ?? 0,
        heartbeatAgeMs: this.heardAgoMs(id),
        promised: live !== undefined && hasPromised(live, reign),
        ioHealthy: live?.io.healthy ?? false,
        readOnly: live?.io.readOnly ?? false,
        slow: live?.io.slow ?? false,
        suspects: live?.suspects ?? new Set(),
        leaving: live?.leaving !== undefined,
        drained: this.isDrained(id),
      };
    });
  }

  infos(): ServerInfo[] {
    return this.known.map((id) => this.#info(id));
  }

  /** What the servers last said of their scrubs and their space. */
  figures(): ServerFigures {
    return this.known.map((id) => {
      const { scrub, use } = this.#live.get(id) ?? {};
      return { id, ...(scrub === undefined ? {} : { scrub }), ...(use === undefined ? {} : { use }) };
    });
  }

  #info(id: ServerId): ServerInfo {
    const record = this.#records.get(id);
    const live = this.#live.get(id);
    const configured = this.#configured.get(id);
    const heardAgoMs = this.heardAgoMs(id);
    return {
      id,
      address: record?.address ?? configured?.address ?? NOWHERE,
      adminPort: record?.adminPort ?? configured?.adminPort ?? 0,
      state: this.stateOf(id),
      capacityBytes: record?.capacityBytes ?? 0,
      domain: record?.domain ?? configured?.domain ?? 'unknown',
      pid: record?.pid ?? 0,
      incarnation: record?.incarnation ?? (0 as Incarnation),
      mount: record?.mount ?? configured?.mount ?? '',
      space: live?.space ?? NO_SPACE,
      io: live?.io ?? NOT_PROBED,
      // Infinity has no form in JSON.
      heartbeatAgeMs: Number.isFinite(heardAgoMs) ? Math.round(heardAgoMs) : -1,
      ...(live?.counts ?? NO_COUNTS),
      suspects: [...(live?.suspects ?? [])],
      leaving: live?.leaving !== undefined,
      drained: this.isDrained(id),
      clockAheadMs: live?.clockAheadMs ?? 0,
    };
  }

  /** A heartbeat told how long its disk was in service. Kept durably when that has become longer. */
  heardAge(live: LiveMember, diskAge: number): void {
    if (diskAge <= (live.diskAge ?? 0)) return;
    live.diskAge = diskAge;
    const kept = this.#records.get(live.record.id)?.diskAge ?? 0;
    if (this.#isKeepingAges || diskAge - kept < DISK_AGE_KEPT_EVERY) return;
    this.#isKeepingAges = true;
    // What could not be kept is tried again at the next.
    this.#serially(() => this.#keepAges())
      .catch(() => undefined)
      .finally(() => {
        this.#isKeepingAges = false;
      });
  }

  /** Those of all servers at once, so that one sync in so many seconds is enough for any number of them. */
  async #keepAges(): Promise<void> {
    const older = [...this.#records.values()].flatMap((kept) => {
      const record = this.#withAge(kept.id)!;
      return record.diskAge === kept.diskAge ? [] : [record];
    });
    if (older.length === 0) return;
    const facts = older.map((record) => [memberKey(record.id), record] as const);
    await this.#store.writeAll(facts, 'the ages of the disks');
    for (const record of older) this.#records.set(record.id, record);
  }

  /** What is known of it durably, with the age that its last heartbeat told. */
  #withAge(server: ServerId): MemberRecord | undefined {
    const record = this.#records.get(server);
    const diskAge = this.#live.get(server)?.diskAge;
    return record === undefined || diskAge === undefined ? record : { ...record, diskAge };
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#writing.then(work);
    this.#writing = result.catch(() => undefined);
    return result;
  }
}

const sameReign = (promise: Reign | undefined, reign: Reign): boolean =>
  promise !== undefined && compareReigns(promise, reign) === 0;
const hasPromised = (live: LiveMember, reign: Reign): boolean => sameReign(live.promise, reign);

const memberOf = ({ id, incarnation, address }: MemberRecord): Member => ({ id, incarnation, address });
