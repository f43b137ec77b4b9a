import type { TfsError } from '../common/errors.ts';
import { type BlockId, epochOf, type Incarnation } from '../common/ids.ts';
import type { Heartbeat, Register } from '../common/wire/control.ts';
import { type BlockEntry, BlockFlag, BlockState } from '../common/wire/messages.ts';
import type { BlockStore } from './block/store.ts';
import type { DataServerOptions } from './options.ts';
import type { DiskProbe } from './probe.ts';
import type { PromiseKeeper } from './promise.ts';
import type { Scrubber } from './scrub/scrubber.ts';
import type { SessionPool } from './session-pool.ts';
import type { SpaceSurvey } from './space/space-survey.ts';
import type { Suspects } from './suspects.ts';
import type { UplinkSource } from './uplink.ts';

const SPACE_EVERY_MS = 2000;
const REASON_CHARS_MAX = 500;

interface ReportParts {
  readonly options: DataServerOptions;
  readonly incarnation: Incarnation;
  readonly store: BlockStore;
  readonly promise: PromiseKeeper;
  readonly probe: DiskProbe;
  readonly suspects: Suspects;
}

/** What is made later than the report, and tells of itself in it. */
interface Told {
  readonly pool: SessionPool;
  readonly scrubber: Scrubber;
  readonly spaceSurvey: SpaceSurvey;
}

function toldOf({ scrubber, spaceSurvey }: Told): Pick<Heartbeat, 'scrub' | 'scrubbed' | 'overdue' | 'use'> {
  const { latest } = spaceSurvey;
  const { overdue } = scrubber;
  return {
    scrub: scrubber.figures,
    scrubbed: scrubber.scrubbed,
    ...(overdue.length === 0 ? {} : { overdue }),
    ...(latest === undefined ? {} : { use: latest }),
  };
}

/** What this DataServer says about itself in registrations and heartbeats. */
export class UplinkReport implements UplinkSource {
  readonly #parts: ReportParts;
  #space: { totalBytes: number; freeBytes: number };
  #spaceAt: number;
  #told: Told | undefined;
  /** What heartbeats say of it from now on. */
  leaving: Heartbeat['leaving'];

  private constructor(parts: ReportParts, space: { totalBytes: number; freeBytes: number }) {
    this.#parts = parts;
    this.#space = space;
    this.#spaceAt = parts.options.clock.monotonic();
  }

  static async open(parts: ReportParts): Promise<UplinkReport> {
    return new UplinkReport(parts, await parts.store.space());
  }

  attach(told: Told): void {
    this.#told = told;
  }

  register(): Register {
    const { options, incarnation, promise, probe } = this.#parts;
    return {
      clusterUuid: options.clusterUuid,
      server: options.server,
      incarnation,
      address: options.address,
      adminPort: options.adminPort,
      pid: options.pid,
      mount: options.mountPath,
      domain: options.domain,
      capacityBytes: options.capacityBytes ?? this.#space.totalBytes,
      blockBytes: options.blockBytes,
      space: this.#measured(),
      promise: promise.reign,
      diskAge: probe.age,
      knownMembers: [...new Set([options.server, ...promise.members, ...this.#writeSets()])].filter(
        (id) => !promise.isRemoved(id),
      ),
      removedMembers: [...promise.removed],
      highestIds: this.#highestIds(),
    };
  }

  heartbeat(): Omit<Heartbeat, 'sequence' | 'promise' | 'echo'> {
    const { options, incarnation, store, suspects, probe } = this.#parts;
    const totals = store.totals();
    return {
      server: options.server,
      incarnation,
      digest: store.digest,
      wallMs: options.clock.now(),
      diskAge: probe.age,
      space: this.#measured(),
      io: this.io,
      suspects: suspects.all,
      openBlocks: this.#told?.pool.openCount ?? 0,
      blocks: totals.blocks,
      files: totals.files,
      aliases: totals.aliases,
      lostRecords: totals.lostRecords,
      ...(this.#told === undefined ? {} : toldOf(this.#told)),
      ...(this.leaving === undefined ? {} : { leaving: this.leaving }),
    };
  }

  /** What the disk is fit for. Of several reasons the one that a person has to act on first. */
  get io(): Heartbeat['io'] {
    const { options, store, probe } = this.#parts;
    const { healthy, failed, slow, probeMs, reason } = probe.health;
    const { freeBytes } = this.#space;
    const full = freeBytes < options.blockBytes;
    const failure = store.readOnly;
    const why =
      (failure && readOnlyReason(failure)) ??
      (healthy && full ? fullReason(freeBytes, options.blockBytes) : reason);
    return {
      healthy,
      failed,
      readOnly: failure !== undefined,
      probeMs,
      slow,
      full,
      ...(why === undefined ? {} : { reason: why.slice(0, REASON_CHARS_MAX) }),
    };
  }

  /** As last measured. */
  get space(): Register['space'] {
    return this.#measured();
  }

  entries(): BlockEntry[] {
    const { store } = this.#parts;
    // Else a NameServer that was away would keep a block that nobody holds, and not know that it held nothing.
    const retired = [...store.dropped].filter((block) => store.isRetired(block));
    return [...store.entries(), ...retired.map((block) => this.dropped(block))];
  }

  entry(block: BlockId): BlockEntry | undefined {
    return this.#parts.store.entry(block);
  }

  dropped(block: BlockId): BlockEntry {
    return {
      block,
      generation: 0,
      state: BlockState.DROPPED,
      flags: this.#parts.store.isRetired(block) ? BlockFlag.RETIRED : 0,
      length: 0,
      seq: 0,
      version: { epoch: epochOf(0), n: 0 },
      opsPrimary: 0,
      targetReplicas: 0,
      members: [],
      deadBytes: 0,
    };
  }

  openBlocks(): readonly BlockId[] {
    return this.#told?.pool.openBlocks ?? [];
  }

  #measured(): Register['space'] {
    const { store, options } = this.#parts;
    const now = options.clock.monotonic();
    if (now - this.#spaceAt > SPACE_EVERY_MS) {
      this.#spaceAt = now;
      // The next heartbeat carries it: a hung disk must not delay this one.
      store.space().then(
        (space) => {
          this.#space = space;
        },
        (error: unknown) => options.log.warn({ err: error }, 'the free space of the disk is unknown'),
      );
    }
    return { ...this.#space, usedBytes: store.totals().bytes };
  }

  /** Every server that a block on this disk was ever written to: a wiped NameServer learns from it whom to wait for. */
  #writeSets(): Set<Register['server']> {
    const { store } = this.#parts;
    const members = new Set<Register['server']>();
    for (const block of store.blocks)
      for (const member of store.info(block)?.members ?? []) members.add(member);
    return members;
  }

  #highestIds(): Register['highestIds'] {
    const highest = new Map<number, number>();
    const { store } = this.#parts;
    for (const blocks of [store.blocks, store.dropped])
      for (const block of blocks) {
        const page = block >>> 16;
        highest.set(page, Math.max(highest.get(page) ?? 0, block & 0xffff));
      }
    return [...highest].map(([page, counter]) => ({ page, counter }));
  }
}

/** A kernel that failed a write may have dropped others: that the disk takes writes again proves nothing about them. */
export const readOnlyReason = ({ message }: TfsError): string =>
  `it only reads, until its disk is mended, mounted again or replaced and this DataServer restarted: ${message}`;

const fullReason = (freeBytes: number, blockBytes: number): string =>
  `the disk is full: ${freeBytes} bytes are free and a block takes ${blockBytes}; free some space or add a DataServer`;
