import { isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import { type BlockId, formatHostPort, type HostPort, type Millis, type ServerId } from '../common/ids.ts';
import { HEARTBEAT_MS, RPC_MS_DEFAULT } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock } from '../common/seams/clock.ts';
import {
  type Heartbeat,
  type Register,
  zEmpty,
  zHeartbeatReply,
  zRegisterReply,
} from '../common/wire/control.ts';
import {
  BLOCK_ENTRIES_PER_FRAME_MAX,
  type BlockEntry,
  encodeBlockEntries,
  Op,
} from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { PromiseKeeper } from './promise.ts';

const RETRY_MS = 300;

/** What an uplink reports; gathered afresh for each message. */
export interface UplinkSource {
  register(): Register;
  heartbeat(): Omit<Heartbeat, 'sequence' | 'promise'>;
  entries(): BlockEntry[];
  /** Undefined when the block is not there any more. */
  entry(block: BlockId): BlockEntry | undefined;
  /** Blocks whose length moves without a change event. */
  openBlocks(): readonly BlockId[];
}

export interface UplinkDeps {
  readonly address: HostPort;
  readonly server: ServerId;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly log: Log;
  readonly promise: PromiseKeeper;
  readonly source: UplinkSource;
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
  #epoch = 0;
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

  get epoch(): number {
    return this.#epoch;
  }

  get registered(): boolean {
    return this.#registered;
  }

  /** Monotonic time of the last answer from this NameServer as the leader. */
  get lastLeaderContact(): Millis | undefined {
    return this.#lastContact;
  }

  changed(block: BlockId): void {
    this.#dirty.add(block);
  }

  /** Sends the changes now instead of at the next beat. */
  hurry(): void {
    this.#wake?.();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake?.();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      try {
        await this.#register();
        while (!this.#closed) {
          await this.#pause(HEARTBEAT_MS);
          if (!this.#closed) await this.#heartbeat();
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
    const { peers, address, source, promise, server } = this.#deps;
    this.#dirty.clear();
    const register = source.register();
    const { message: reply } = await peers.callControl(address, Op.REGISTER, register, zRegisterReply);
    await promise.accept(reply.reign);
    await promise.learnMembers(reply.members);
    // Changes from here on are in the dirty set as well as, perhaps, in the report: the later word wins.
    const entries = source.entries();
    const pages = Math.max(1, Math.ceil(entries.length / BLOCK_ENTRIES_PER_FRAME_MAX));
    for (let page = 0; page < pages; page++) {
      const part = entries.slice(
        page * BLOCK_ENTRIES_PER_FRAME_MAX,
        (page + 1) * BLOCK_ENTRIES_PER_FRAME_MAX,
      );
      await peers.callControl(
        address,
        Op.REPORT,
        {
          server,
          incarnation: register.incarnation,
          promise: promise.reign,
          page,
          last: page === pages - 1,
          sequence: this.#sequence,
        },
        zEmpty,
        [encodeBlockEntries(part)],
        RPC_MS_DEFAULT * 4,
      );
    }
    this.#contact(reply.leader, reply.reign.epoch);
    this.#registered = true;
    if (this.#complaint !== '')
      this.#deps.log.info({ nameserver: formatHostPort(address) }, 'registered again');
    this.#complaint = '';
  }

  async #heartbeat(): Promise<void> {
    const { peers, address, source, promise } = this.#deps;
    const dirty = this.#dirty;
    this.#dirty = new Set();
    for (const block of source.openBlocks()) dirty.add(block);
    const entries: BlockEntry[] = [];
    for (const block of dirty) {
      const entry = source.entry(block);
      if (entry !== undefined) entries.push(entry);
    }
    this.#sequence++;
    const { message: reply } = await peers.callControl(
      address,
      Op.HEARTBEAT,
      { ...source.heartbeat(), promise: promise.reign, sequence: this.#sequence },
      zHeartbeatReply,
      [encodeBlockEntries(entries)],
      // Shorter than two beats: a lost answer must not make this server look dead.
      2 * HEARTBEAT_MS,
    );
    await promise.accept(reply.reign);
    await promise.learnMembers(reply.members);
    this.#contact(reply.leader, reply.reign.epoch);
    if (reply.resync) throw new TfsError('UNREGISTERED', 'the NameServer asks for a new report');
  }

  #contact(leader: boolean, epoch: number): void {
    this.#leader = leader;
    this.#epoch = epoch;
    if (leader) this.#lastContact = this.#deps.clock.monotonic();
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
