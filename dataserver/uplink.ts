import { type ErrorCode, isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import { type BlockId, formatHostPort, type HostPort, type Millis, type ServerId } from '../common/ids.ts';
import { FAREWELL_MS_MAX, HEARTBEAT_MS, RPC_MS_DEFAULT } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import {
  compareReigns,
  type Heartbeat,
  type HeartbeatReply,
  type Register,
  type RegisterReply,
  type Reign,
  zEmpty,
  zHeartbeatReply,
  zRegisterReply,
} from '../common/wire/control.ts';
import { type BlockEntry, encodeBlockEntries, Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { Nonces } from './nonces.ts';
import type { PromiseKeeper } from './promise.ts';

const RETRY_MS = 300;
/** Not longer than two beats: a lost answer must not make this server look dead. */
const HEARTBEAT_ANSWER_MS_MAX = 2 * HEARTBEAT_MS;

/** The beat after an answer that confirmed nothing; each further one after twice the time, up to the usual. */
const UNCONFIRMED_BEAT_MS = 100;

const DISK_ERRORS: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['IO', 'READ_ONLY', 'DISK_FULL']);

/** What an uplink reports; gathered afresh for each message. */
export interface UplinkSource {
  register(): Register;
  heartbeat(): Omit<Heartbeat, 'sequence' | 'promise' | 'echo'>;
  /** All that is there; and, as dropped, blocks that held nothing and are gone: a NameServer may have missed that. */
  entries(): BlockEntry[];
  /** Undefined when the block is not there any more. */
  entry(block: BlockId): BlockEntry | undefined;
  /** What is said of a block that is not there any more. */
  dropped(block: BlockId): BlockEntry;
  /** Blocks whose length moves without a change event. */
  openBlocks(): readonly BlockId[];
}

export interface UplinkDeps {
  /** Its id. */
  readonly nameserver: number;
  readonly address: HostPort;
  readonly nonces: Nonces;
  readonly server: ServerId;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly log: Log;
  readonly promise: PromiseKeeper;
  readonly source: UplinkSource;
  /** The NameServer has taken this server for what it says it is. */
  readonly onRegistered: () => void;
  /** A new leader has been found. */
  readonly onLeader: () => void;
  /** What time it is where the leader is, ms since 1970. */
  readonly onTime: (wallMs: number) => void;
  /** The NameServer will never take this server as it is. */
  readonly onRefused: (error: TfsError) => void;
}

/**
 * The link to one NameServer: register, report every block, then a heartbeat a second with what changed since. Both
 * NameServers get the same, so that a standby knows what the leader knows. Any gap ends in a new, whole report.
 */
export class Uplink {
  readonly #deps: UplinkDeps;
  #dirty = new Set<BlockId>();
  #closed = false;
  #registered = false;
  #leader = false;
  #sequence = 0;
  #lastContact: Millis | undefined;
  #reign: Reign | undefined;
  /** The newest `token`, to be echoed. */
  #token: number | undefined;
  /** Replicas that are not the newest, as the leader said; undefined while it has confirmed nothing. */
  #stale: Set<BlockId> | undefined;
  /** Replicas in doubt, and since when. */
  readonly #doubts = new Map<BlockId, Millis>();
  /** Answers of a leader, in a row, that confirmed nothing. */
  #unconfirmed = 0;
  #isHurried = false;
  #complaint = '';
  #running: Promise<void> | undefined;
  #wake: (() => void) | undefined;

  constructor(deps: UplinkDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  get address(): HostPort {
    return this.#deps.address;
  }

  /** Whether this NameServer said, last time it answered, that it leads. */
  get leader(): boolean {
    return this.#leader && this.#registered;
  }

  /** Under which it leads, or led when it last answered as the leader. */
  get reign(): Reign | undefined {
    return this.#reign;
  }

  get registered(): boolean {
    return this.#registered;
  }

  /** Monotonic: when the newest question that this NameServer answered as the leader was sent. */
  get lastLeaderContact(): Millis | undefined {
    return this.#lastContact;
  }

  /** Whether its last answer said, as the leader, that this server's replica of the block is the newest there is. */
  isConfirmed(block: BlockId): boolean {
    return this.#stale !== undefined && !this.#stale.has(block);
  }

  /** The replica may not be the newest: counts until an answer to a later question says otherwise. */
  unconfirm(block: BlockId): void {
    this.#stale?.add(block);
    this.#doubts.set(block, this.#deps.clock.monotonic());
  }

  changed(block: BlockId): void {
    this.#dirty.add(block);
  }

  /** Sends the changes now instead of at the next beat. */
  hurry(): void {
    this.#isHurried = true;
    this.#wake?.();
  }

  /** Says a last word, if the NameServer takes it. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#wake?.();
    await this.#running;
    if (!this.#registered) return;
    try {
      await this.#heartbeat(FAREWELL_MS_MAX);
    } catch (error) {
      // It finds out from the silence.
      this.#deps.log.debug({ reason: toTfsError(error).message }, 'a NameServer took no last word');
    }
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      try {
        await this.#register();
        while (!this.#closed) {
          await this.#pause(this.#beatMs);
          if (!this.#closed) await this.#heartbeat(HEARTBEAT_ANSWER_MS_MAX);
        }
      } catch (error) {
        this.#registered = false;
        const failure = toTfsError(error);
        if (isTfsError(error, 'REFUSED')) {
          this.#deps.onRefused(failure);
          return;
        }
        this.#complain(failure);
        await this.#pause(RETRY_MS);
      }
    }
  }

  async #register(): Promise<void> {
    const { peers, address, nameserver, source, promise, nonces, server, clock } = this.#deps;
    this.#dirty.clear();
    // What was said of the replicas was said of what had been reported before.
    this.#stale = undefined;
    this.#token = undefined;
    const sentAt = clock.monotonic();
    const nonce = nonces.of(nameserver);
    const register = { ...source.register(), ...(nonce === undefined ? {} : { nonce }) };
    const { message: reply } = await peers.callControl(address, Op.REGISTER, register, zRegisterReply);
    // Before anything is acknowledged under this registration.
    if (reply.nonce !== undefined) await nonces.keep(nameserver, reply.nonce);
    const leads = await this.#obey(reply);
    // As of now, like the entries: what is begun under this promise later is not in them.
    const promised = promise.reign;
    // Changes from here on are in the dirty set as well as, perhaps, in the report: the later word wins.
    const entries = source.entries();
    const pages = Math.max(1, Math.ceil(entries.length / tunable.reportEntriesPerFrameMax));
    for (let page = 0; page < pages; page++) {
      const part = entries.slice(
        page * tunable.reportEntriesPerFrameMax,
        (page + 1) * tunable.reportEntriesPerFrameMax,
      );
      await peers.callControl(
        address,
        Op.REPORT,
        {
          server,
          incarnation: register.incarnation,
          promise: promised,
          echo: this.#token,
          page,
          last: page === pages - 1,
          sequence: this.#sequence,
        },
        zEmpty,
        [encodeBlockEntries(part)],
        RPC_MS_DEFAULT * 4,
      );
    }
    this.#registered = true;
    this.#deps.onRegistered();
    this.#contact(leads, reply.reign, sentAt);
    // Nothing is confirmed before the first beat.
    this.#isHurried = true;
    if (this.#complaint !== '')
      this.#deps.log.info({ nameserver: formatHostPort(address) }, 'registered again');
    this.#complaint = '';
  }

  async #heartbeat(answerMsMax: number): Promise<void> {
    const { peers, address, source, promise, clock } = this.#deps;
    const dirty = this.#dirty;
    this.#dirty = new Set();
    const entries = Array.from(dirty, (block) => source.entry(block) ?? source.dropped(block));
    for (const block of source.openBlocks()) {
      const entry = dirty.has(block) ? undefined : source.entry(block);
      if (entry !== undefined) entries.push(entry);
    }
    this.#sequence++;
    const sentAt = clock.monotonic();
    const { message: reply } = await peers.callControl(
      address,
      Op.HEARTBEAT,
      { ...source.heartbeat(), promise: promise.reign, sequence: this.#sequence, echo: this.#token },
      zHeartbeatReply,
      [encodeBlockEntries(entries)],
      answerMsMax,
    );
    const leads = await this.#obey(reply);
    this.#confirm(leads && reply.confirmed ? reply.stale : undefined, sentAt);
    this.#contact(leads, reply.reign, sentAt);
    this.#unconfirmed = leads && !reply.confirmed ? this.#unconfirmed + 1 : 0;
    if (reply.resync) throw new TfsError('UNREGISTERED', 'the NameServer asks for a new report');
  }

  /** A leader that has just begun waits for others too: what it will confirm in a moment is asked for soon. */
  get #beatMs(): number {
    if (this.#unconfirmed === 0) return HEARTBEAT_MS;
    return Math.min(HEARTBEAT_MS, UNCONFIRMED_BEAT_MS * 2 ** (this.#unconfirmed - 1));
  }

  /**
   * Promises what a leader asks for, and notes the rest.
   *
   * @returns whether this NameServer leads; one that claims to, under a reign that is over, does not
   */
  async #obey(reply: RegisterReply | HeartbeatReply): Promise<boolean> {
    const { promise, log } = this.#deps;
    this.#token = reply.token;
    const before = promise.reign;
    try {
      await promise.learnMembers(reply.members, reply.removed);
      if (!reply.leader) return false;
      await promise.accept(reply.reign);
      if (reply.wallMs !== undefined) this.#deps.onTime(reply.wallMs);
    } catch (error) {
      const failure = toTfsError(error);
      // A disk that takes no writes can promise nothing. What it holds is reported all the same, and may be read.
      if (!DISK_ERRORS.has(failure.code) && failure.code !== 'STALE_EPOCH') throw error;
      // The next heartbeat shows it what was promised.
      log.debug({ reason: failure.message }, 'nothing is promised to a NameServer that leads');
      return false;
    }
    // A new leader need not wait a beat for the promise.
    if (compareReigns(before, promise.reign) !== 0) this.#isHurried = true;
    return true;
  }

  #confirm(stale: readonly BlockId[] | undefined, sentAt: Millis): void {
    this.#stale = stale && new Set(stale);
    if (stale === undefined) return;
    for (const [block, since] of this.#doubts) {
      if (since >= sentAt) this.#stale?.add(block);
      else this.#doubts.delete(block);
    }
  }

  #contact(leader: boolean, reign: Reign, sentAt: Millis): void {
    const isNew =
      leader && (!this.#leader || this.#reign === undefined || compareReigns(reign, this.#reign) !== 0);
    this.#leader = leader;
    if (!leader) return;
    this.#reign = reign;
    this.#lastContact = sentAt;
    if (isNew) this.#deps.onLeader();
  }

  #complain(failure: TfsError): void {
    if (this.#closed || this.#complaint === failure.message) return;
    this.#complaint = failure.message;
    const level = failure.code === 'UNREGISTERED' ? 'info' : 'warn';
    this.#deps.log[level](
      { nameserver: formatHostPort(this.#deps.address), code: failure.code, reason: failure.message },
      'no NameServer: reads go on, marked provisional; trying again',
    );
  }

  /** Sleeps, but not past {@link hurry} or {@link close}. */
  #pause(delayMs: number): Promise<void> {
    if (this.#isHurried) {
      this.#isHurried = false;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      const timer = this.#deps.clock.after(delayMs, done);
      const wake = done.bind(undefined);
      function done(): void {
        timer.cancel();
        resolve();
      }
      this.#wake = wake;
    });
  }
}
