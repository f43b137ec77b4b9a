import type { TfsError } from '../../common/errors.ts';
import type { Op, OpsState } from '../../common/format/ops.ts';
import type { RecordHeader } from '../../common/format/record.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import type { Hole } from '../../common/format/walk.ts';
import type { BlockId, Epoch, Millis, ServerId, Slot, Version } from '../../common/ids.ts';
import type { Log } from '../../common/log.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { Disk } from '../../common/seams/disk.ts';
import type { Random } from '../../common/seams/random.ts';
import type { BlockState } from '../../common/wire/messages.ts';
import type { Faults } from './faults.ts';

export interface BlockStoreOptions {
  /** The mount; the store keeps its files in {@link STORE_DIRECTORIES} and makes them where they are missing. */
  readonly disk: Disk;
  readonly clock: Clock;
  /** What operations are dated with, ms since 1970; default: the clock. */
  readonly opsNow?: () => Millis;
  readonly random: Random;
  /** 32 hex digits: blocks of another cluster are refused. */
  readonly clusterUuid: string;
  readonly server: ServerId;
  readonly budgets: { readonly indexBytes: number; readonly openFiles: number };
  readonly log: Log;
  readonly events?: StoreEvents;
  readonly faults?: Faults;
  /** Smaller in tests. */
  readonly limits?: {
    readonly opsLogBytes?: number;
    readonly opsReserveBytes?: number;
    readonly dropLogEntries?: number;
    /** How long damaged files are kept after they were replaced. */
    readonly trashMs?: number;
  };
}

export interface StoreEvents {
  /** What `entries` says about this block is not what it said before. Appends alone do not count. */
  changed?(block: BlockId): void;
  /** The disk failed a write: the store only reads from now on. Called once. */
  ioError?(error: TfsError): void;
  /** Stored bytes do not verify; the block is SUSPECT now. */
  corrupt?(block: BlockId, error: TfsError): void;
  /**
   * Operations of a block have become durable and are in its state: `done` just now, or `found` in the log of a replica
   * that was opened or has come from elsewhere. A log that was folded begins with a SNAPSHOT. Not to be changed, nor kept.
   */
  ops?(block: BlockId, ops: readonly Op[], state: OpsState, how: 'done' | 'found'): void;
}

/** Records ready to be written: made by the one write session of the block. */
export interface Batch {
  /** Where it goes: the end of what was given to the store before. */
  readonly offset: number;
  /** Of the records, in order; slots go on from the last one. */
  readonly headers: readonly RecordHeader[];
  /**
   * The bytes, in order. Every record starts a buffer of its own, which begins with the whole encoded header and
   * chunk table; payload and padding may be in the same buffer or in the following ones. Written without a copy:
   * they must not change until the append has resolved.
   */
  readonly buffers: readonly Buffer[];
  /** All of `buffers`. */
  readonly bytes: number;
}

export interface BlockInfo {
  readonly block: BlockId;
  readonly generation: number;
  readonly state: BlockState;
  /** Bits of BlockFlag. */
  readonly flags: number;
  /** Absent where the superblock cannot be read. */
  readonly superblock: Superblock | undefined;
  /** End of the last record that is durable here; of a RECOVERED block known only once it was walked. */
  readonly length: number;
  readonly slots: number;
  /** Records that end at or below this are known to be durable on every member of the write set. */
  readonly provenLength: number;
  /** Newest op in the log. */
  readonly seq: number;
  /** The end of the log did not read when this process opened it: an operation may be missing that others have. */
  readonly wasCut: boolean;
  readonly version: Version;
  /** Of a configuration that is being agreed on: operations of the present one are not taken meanwhile. */
  readonly prepared: Version | undefined;
  readonly opsPrimary: ServerId;
  /** Of the newest CFG. */
  readonly members: readonly ServerId[];
  readonly seal: SealInfo | undefined;
  /** Some name in it is, or was, deleted or hidden. */
  readonly hasFlags: boolean;
  /** Whether a RECOVERED block has been walked; true for all others. */
  readonly walked: boolean;
}

export interface SealInfo {
  readonly length: number;
  readonly slots: number;
  /** 32 bytes. */
  readonly digest: Buffer;
  readonly epoch: Epoch;
  /** Known to be on every member. */
  readonly complete?: true;
  /** Records that verified on no replica; absent for none. */
  readonly lost?: number;
}

export interface ReadResult {
  /** Of the record; for an alias, of its target. Its op id and SHA-1 are views of the buffer that was read. */
  readonly header: RecordHeader;
  /** Bits of NameFlag, of the name that was asked for. */
  readonly nameFlags: number;
  readonly alias: boolean;
  /** Of the record; for an alias, of its target. */
  readonly slot: Slot;
  /** Where in the payload `payload` starts. */
  readonly offset: number;
  /** Verified against the record's CRCs. */
  readonly payload: Buffer;
  /** The record is known to be durable on every member of the block's write set: it may answer for a duplicate. */
  readonly proven: boolean;
}

export interface FenceFacts {
  /** End of the last valid record. */
  readonly validLength: number;
  readonly slots: number;
  /** Highest length that a watermark, or the live session, proves to have been durable on every member. */
  readonly provenLength: number;
  /**
   * Spans below `validLength` that do not verify; of a sealed block those that are lost on every replica, but for what
   * reads again here.
   */
  readonly holes: readonly Hole[];
  /**
   * This process made the block, had no I/O error on it, and has just re-read its tail. Of a block with a SEAL: that one
   * is in force.
   */
  readonly clean: boolean;
  /**
   * Over the record headers up to `validLength`; absent where there are holes. Of a sealed block that of its SEAL, unless
   * records that it has as lost read again.
   */
  readonly digest: Buffer | undefined;
  readonly seal: SealInfo | undefined;
  readonly members: readonly ServerId[];
}

export interface SealOrder {
  readonly length: number;
  readonly slots: number;
  /** Absent for the replica that is to find it out. */
  readonly digest: Buffer | undefined;
  readonly epoch: Epoch;
  /** It is known to be on every member. */
  readonly complete?: boolean;
  /** Of the SEAL with that digest: records that are lost. */
  readonly lost?: number;
  /** What does not verify here is on no other replica either. */
  readonly mayLose?: boolean;
  /** Also what the disk fails to read now, which it may be able to later. */
  readonly mayLoseUnread?: boolean;
}

export interface RecordRef {
  readonly slot: Slot;
  /** 20 bytes; a view of a buffer of all of them. */
  readonly sha1: Buffer;
}

/** Records for another replica. */
export interface RawRecords {
  /** Whole records from the offset that was asked for, each verified; none where the first one is bad here. */
  readonly bytes: Buffer;
  /** Where the index has the next record behind that offset, and how many slots lie before it; undefined for no record. */
  readonly next: { readonly offset: number; readonly slots: number } | undefined;
  /** The disk failed to read the first one, which may be sound. */
  readonly unread?: boolean;
}

/** The first records in a range that verify. */
export interface SoundRecords {
  /** Without bytes, the end of the range. */
  readonly offset: number;
  readonly bytes: Buffer;
  /** Before them lies one that the disk failed to read: it may be sound. */
  readonly unread: boolean;
}

/** A whole replica is to be made, or made whole, of what is here and what others have. */
export interface ReceiveOrder {
  readonly block: BlockId;
  readonly generation: number;
  readonly seal: SealInfo;
  /** The newest configuration that the leader knows: operations are taken only from a replica that holds it. */
  readonly version: Version;
  /** This server is no member of the block and is to become one. */
  readonly joins?: boolean;
  /**
   * What the disk fails to read here, and nobody else has, may be left out of the new file: that has been tried for so long
   * that it will not come back.
   */
  readonly mayLoseUnread?: boolean;
}

/** A replica that nobody needs any more is to go. */
export interface DropOrder {
  readonly block: BlockId;
  readonly generation: number;
  /** The newest configuration, which this replica does not belong to. */
  readonly version: Version;
  /** `retired`: the block is empty and goes with all of its replicas, those of its configuration too. */
  readonly reason: 'moved' | 'excess' | 'retired';
  /** Of a block that is retired: who may hold more of it than whoever orders this has heard of; absent: anybody. */
  readonly missing?: readonly ServerId[] | undefined;
}

/** Makes what was received count. It may refuse; then nothing has changed here. */
export type Commit = (install: () => Promise<void>) => Promise<void>;

export interface Received {
  /** Every record and the digest verify now. */
  readonly whole: boolean;
  /** Records that came from others. */
  readonly fetched: number;
  /** Records that verify neither here nor on any other. */
  readonly lost: number;
}

/** The next generation of a sealed block is to be made: without what is purged. */
export interface CompactionOrder {
  readonly block: BlockId;
  /** To be made: one more than the present one. */
  readonly generation: number;
  /** The configuration, and an operation, that this replica has to hold: the purge that all members have. */
  readonly version: Version;
  readonly seq: number;
  /** Of records written and read back. */
  readonly bytesPerSecond: number;
}

/** What a replica has made. Equal on all that had the same records and purged the same. */
export interface PreparedGeneration {
  readonly length: number;
  /** Those of purged records are counted: names keep their slots. */
  readonly slots: number;
  /** 32 bytes, over the record headers. */
  readonly digest: Buffer;
}

/** What most replicas have made counts from now on. */
export interface GenerationOrder extends PreparedGeneration {
  readonly generation: number;
  /** Of the leader that decided it. */
  readonly epoch: Epoch;
}

export interface StoreTotals {
  readonly blocks: number;
  readonly openBlocks: number;
  /** Those and others that are not sealed yet. */
  readonly unsealedBlocks: number;
  readonly files: number;
  readonly aliases: number;
  /** Records that were sealed as lost: they verify on no replica. */
  readonly lostRecords: number;
  /** Bytes of block files: what they take, with what is preallocated. */
  readonly bytes: number;
  readonly spares: number;
  /** Blocks of which something does not verify. */
  readonly suspects: number;
  /** Of damaged files that were replaced and are kept for a while. */
  readonly trashBytes: number;
  /** Of block files beside those in use: next generations, and earlier ones that are kept for a moment. */
  readonly generationBytes: number;
  /** Bytes of memory that loaded indexes take. */
  readonly indexBytes: number;
}

/** Takes turns with whoever else uses the disk. */
export interface ReadPace {
  /** Read at a time. */
  readonly pieceBytes: number;
  /** Runs one read, when it may be. @throws TfsError CLOSED when nothing more is to be read */
  read<T>(bytes: number, work: () => Promise<T>): Promise<T>;
}

export interface VerifyReport {
  readonly records: number;
  readonly bytes: number;
  /** Of the headers as they read now; absent where some do not. */
  readonly digest: Buffer | undefined;
  /** One clause each, with the offset; empty for a sound block. */
  readonly problems: readonly string[];
  /** Of a replica that is as it was sealed: records that had been lost by then, which is one of the problems. */
  readonly lost: number;
}

/** What a CFG op says, at the birth of a block. */
export interface Configuration {
  readonly version: Version;
  readonly opsPrimary: ServerId;
  readonly members: readonly ServerId[];
}

/**
 * Relative to the mount: block files and ops logs; zero-filled files to come; what was cut off and is kept; damaged
 * files that were replaced, kept for a while.
 */
export const STORE_DIRECTORIES = {
  blocks: 'blocks',
  spare: 'spare',
  surplus: 'surplus',
  trash: 'trash',
} as const;
