/**
 * Control messages: rare, so their headers are JSON, checked here on arrival. Byte strings are hex. An unknown key is
 * dropped, so that a newer server can talk to an older one during a rolling restart.
 */

import { z } from 'zod';
import { TfsError } from '../errors.ts';
import {
  type BlockId,
  type Epoch,
  epochOf,
  type Incarnation,
  incarnationOf,
  type ServerId,
  type Session,
  serverId,
} from '../ids.ts';
import { OVERDUE_BLOCKS_MAX, SCRUBBED_BLOCKS_MAX } from '../limits.ts';
import { zScrubFigures } from './scrub.ts';
import { zSpaceUse } from './space.ts';

export const u32 = z.number().int().min(0).max(0xffff_ffff);
const u16 = z.number().int().min(0).max(0xffff);
export const zBlock = u32.transform((n) => n as BlockId);
export const zServer = u16.min(1).transform((n) => serverId(n) as ServerId);
export const zIncarnation = u32.transform((n) => incarnationOf(n) as Incarnation);
const zSession = u32.min(1).transform((n) => n as Session);
const zEpoch = z
  .number()
  .int()
  .min(0)
  .max(2 ** 48 - 1)
  .transform((n) => epochOf(n) as Epoch);
export const zVersion = z.object({ epoch: zEpoch, n: u16 });
const zHost = z.string().min(1).max(255);
const zAddress = z.object({ host: zHost, port: u16.min(1) });
export const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));
const label = z.string().min(1).max(64);

/** The right to command: a NameServer's reign, and which NameServer it is (0 or 1). */
export const zReign = z.object({ epoch: zEpoch, nameserver: z.number().int().min(0).max(1) });
export type Reign = z.infer<typeof zReign>;

/** @returns negative, 0 or positive as a is below, the same as or above b */
export function compareReigns(a: Reign, b: Reign): number {
  return a.epoch - b.epoch || a.nameserver - b.nameserver;
}

export const zMember = z.object({ id: zServer, incarnation: zIncarnation, address: zAddress });
export type Member = z.infer<typeof zMember>;

const zDiskAge = z
  .number()
  .int()
  .min(0)
  .max(2 ** 48 - 1);
const zSpace = z.object({ totalBytes: z.number(), freeBytes: z.number(), usedBytes: z.number() });
const zIo = z.object({
  healthy: z.boolean(),
  /** Not healthy because writes are refused, and not only because they do not end. */
  failed: z.boolean().optional(),
  readOnly: z.boolean(),
  /** Duration of the last probe write with its fdatasync. */
  probeMs: z.number(),
  /** Writes take long, time and again: it is used where nothing faster is. */
  slow: z.boolean().optional(),
  /** No room for another block. */
  full: z.boolean().optional(),
  /** For a person: what is wrong and what to do. */
  reason: z.string().max(500).optional(),
});

/** DataServer -> every NameServer, when it starts and when it is told UNREGISTERED. */
export const zRegister = z.object({
  clusterUuid: hex(16),
  server: zServer,
  incarnation: zIncarnation,
  address: zAddress,
  adminPort: u16,
  pid: z.number().int(),
  mount: z.string().max(4096),
  domain: label,
  capacityBytes: z.number().positive(),
  blockBytes: u32,
  space: zSpace,
  promise: zReign,
  /** What the last registration with this NameServer left behind; see {@link zRegisterReply}. Absent the first time. */
  nonce: hex(8).optional(),
  /** For how many seconds its disk was in service; it never grows less. Absent from versions that did not count. */
  diskAge: zDiskAge.optional(),
  /** Every DataServer this one ever heard of, kept durably beside its promise. */
  knownMembers: z.array(zServer).max(4096),
  /** Those that were taken out of the cluster, kept as durably. */
  removedMembers: z.array(zServer).max(4096).default([]),
  /** Highest block id it holds or has dropped, for each series and NameServer: id >>> 16 -> counter. */
  highestIds: z.array(z.object({ page: u16, counter: u16 })).max(65_536),
});
export type Register = z.infer<typeof zRegister>;

/** The DataServer makes `reign` its durable promise (refusing a lower one) and then sends REPORT pages. */
export const zRegisterReply = z.object({
  reign: zReign,
  leader: z.boolean(),
  members: z.array(zServer).max(4096),
  /** Taken out of the cluster for good. */
  removed: z.array(zServer).max(4096).default([]),
  replicas: z.number().int().min(1).max(8),
  minWrite: z.number().int().min(1).max(8),
  /** As in {@link zHeartbeatReply}; a token of before the registration counts no more. */
  token: z.number().min(0).optional(),
  /** What time it is in the cluster, ms since 1970; absent while the leader does not know that. */
  wallMs: z.number().optional(),
  /** To be kept durably and shown at the next registration: a disk that was set back shows an older one. */
  nonce: hex(8).optional(),
});
export type RegisterReply = z.infer<typeof zRegisterReply>;

/** One page of the block table; the payload is block entries. `sequence` numbers all changes this incarnation sent. */
export const zReport = z.object({
  server: zServer,
  incarnation: zIncarnation,
  promise: zReign,
  /** As in {@link zHeartbeat}. */
  echo: z.number().min(0).optional(),
  page: u32,
  last: z.boolean(),
  /** Change number up to which this report is current; heartbeats go on from it. */
  sequence: z.number().int().min(0),
});
export type Report = z.infer<typeof zReport>;

/** The payload is the block entries that changed since the last heartbeat. */
export const zHeartbeat = z.object({
  server: zServer,
  incarnation: zIncarnation,
  promise: zReign,
  /** Number of this batch of changes: one more than the last, else the NameServer asks for a new report. */
  sequence: z.number().int().min(0),
  /** The `token` of the newest answer: proof that this message was sent after that one was issued. */
  echo: z.number().min(0).optional(),
  /** {@link tableDigest} of everything this server holds, this batch included. */
  digest: u32.optional(),
  /** What time it is there, ms since 1970. */
  wallMs: z.number().optional(),
  /** As in {@link zRegister}. */
  diskAge: zDiskAge.optional(),
  space: zSpace,
  io: zIo,
  /** Peers this server could not reach, or found slow, in the last minute. */
  suspects: z.array(zServer).max(4096),
  openBlocks: u32,
  blocks: u32,
  files: z.number().int().min(0),
  aliases: z.number().int().min(0),
  /** Records that were sealed as lost, because they verified on no replica. */
  lostRecords: z.number().int().min(0).optional(),
  scrub: zScrubFigures.optional(),
  /** What the bytes below its mount are; absent until it has been looked at. */
  use: zSpaceUse.optional(),
  /** Replicas that were read through in the last moments: to be compared with those of other servers. */
  scrubbed: z.array(zBlock).max(SCRUBBED_BLOCKS_MAX).optional(),
  /** Replicas that were not read through for far too long, and for how long; absent where there is none. */
  overdue: z
    .array(z.object({ block: zBlock, ageMs: z.number().min(0) }))
    .max(OVERDUE_BLOCKS_MAX)
    .optional(),
  /**
   * `stopping`: it ends its write sessions and wants what it holds sealed; it still answers. `gone`: its last word; it
   * answers nothing any more.
   */
  leaving: z.enum(['stopping', 'gone']).optional(),
});
export type Heartbeat = z.infer<typeof zHeartbeat>;

/** With more of them nothing is confirmed. */
export const STALE_BLOCKS_MAX = 4096;

export const zHeartbeatReply = z.object({
  reign: zReign,
  leader: z.boolean(),
  /** Send the whole table again. */
  resync: z.boolean(),
  members: z.array(zServer).max(4096),
  /** Taken out of the cluster for good. */
  removed: z.array(zServer).max(4096).default([]),
  /** Of this NameServer's own clock, to be echoed. */
  token: z.number().min(0).optional(),
  /** As in {@link zRegisterReply}. */
  wallMs: z.number().optional(),
  /**
   * From a leader that has heard of every block: every replica that was reported holds the newest configuration, belongs
   * to it, and lacks no operation that another is known to hold, but those that are `stale`. Without it nothing is confirmed.
   */
  confirmed: z.boolean().default(false),
  stale: z.array(zBlock).max(STALE_BLOCKS_MAX).default([]),
});
export type HeartbeatReply = z.infer<typeof zHeartbeatReply>;

/** Primary -> leading NameServer: a new block with me as the primary. */
export const zOpenBlock = z.object({
  server: zServer,
  incarnation: zIncarnation,
  avoid: z.array(zServer).max(4096),
});
export type OpenBlock = z.infer<typeof zOpenBlock>;

/** The primary is `members[0]`. */
export const zOpenBlockReply = z.object({
  block: zBlock,
  reign: zReign,
  version: zVersion,
  targetReplicas: z.number().int().min(1).max(8),
  members: z.array(zMember).min(1).max(8),
});
export type OpenBlockReply = z.infer<typeof zOpenBlockReply>;

/** Primary -> every other member. The payload is the 4096 bytes of the superblock. */
export const zCreateBlock = z.object({
  block: zBlock,
  reign: zReign,
  version: zVersion,
  opsPrimary: zServer,
  members: z.array(zMember).min(1).max(8),
});
export type CreateBlock = z.infer<typeof zCreateBlock>;

/** Primary -> leading NameServer: this session is over, seal the block. */
export const zEndSession = z.object({
  server: zServer,
  block: zBlock,
  session: zSession,
  reason: z.enum(['full', 'member', 'age', 'io', 'stop']),
  /** Members that failed it. */
  failed: z.array(zServer).max(8),
});
export type EndSession = z.infer<typeof zEndSession>;

export const zFence = z.object({ block: zBlock, reign: zReign });
export type Fence = z.infer<typeof zFence>;

export const zSealFact = z.object({
  length: u32,
  slots: u32,
  digest: hex(32),
  epoch: zEpoch,
  /** Known there to be on every member. */
  complete: z.boolean().optional(),
  /** Records that verified on no replica when it was sealed. */
  lost: u32.optional(),
});
export type SealFact = z.infer<typeof zSealFact>;

/** A seal as a DataServer keeps it: the digest in bytes, and nothing for what is not so. */
interface SealBytes extends Pick<SealFact, 'length' | 'slots' | 'epoch'> {
  readonly digest: Buffer;
  readonly complete?: true;
  readonly lost?: number;
}
export const sealInfoOf = ({ length, slots, digest, epoch, complete, lost }: SealFact): SealBytes => ({
  length,
  slots,
  digest: Buffer.from(digest, 'hex'),
  epoch,
  ...(complete ? { complete } : {}),
  ...(lost ? { lost } : {}),
});
export const sealFactOf = ({ digest, ...seal }: Readonly<SealBytes>): SealFact => ({
  ...seal,
  digest: digest.toString('hex'),
});

const zHole = z.object({ start: u32, end: u32 });

/** From the append queue, after everything queued before it is durable or failed. */
export const zFenceReply = z.object({
  /** Whether this server holds the block at all. */
  known: z.boolean(),
  /** It does, and its superblock or its ops log cannot be read: it is neither a source nor can it be sealed. */
  unreadable: z.boolean().optional(),
  /** End of the last valid record. */
  validLength: u32,
  slots: u32,
  /** Highest length that a watermark, or the live session, proves to have been durable on every member. */
  provenLength: u32.default(0),
  /** Spans before `validLength` that do not verify here although later watermarks say they were acked. */
  holes: z.array(zHole).max(65_536),
  /**
   * The process has run since the block was opened, had no I/O error, and re-read its tail just now. Of a replica with
   * a SEAL: that one is in force, and it was not about to be sealed otherwise.
   */
  clean: z.boolean(),
  /**
   * Over the record headers up to `validLength`; absent where there are holes. Of a replica with a SEAL the digest of that;
   * another one, or none, where records that it has as lost read again.
   */
  digest: hex(32).optional(),
  seal: zSealFact.optional(),
  members: z.array(zServer).max(8),
});
export type FenceReply = z.infer<typeof zFenceReply>;

/**
 * What is missing below `length` is fetched from `sources`; nothing below `length` is ever cut. A replica that is sealed
 * otherwise obeys an order that stands above its own SEAL, and refuses any other.
 */
export const zSeal = z.object({
  block: zBlock,
  reign: zReign,
  length: u32,
  slots: u32,
  /** Absent for the member that is to find it out. */
  digest: hex(32).optional(),
  /** Epoch of an adopted SEAL, or the leader's own. */
  epoch: zEpoch,
  sources: z.array(zMember).max(8),
  /** Every member of the write set, or of the configuration, is known to hold this SEAL. */
  complete: z.boolean().default(false),
  /** Of the SEAL with that digest: records that are lost. */
  lost: u32.optional(),
  /** What verifies on none of the sources may be sealed as lost: everyone who might have it has been asked. */
  mayLose: z.boolean().default(false),
  /** Also what a disk fails to read, which it may be able to later. */
  mayLoseUnread: z.boolean().default(false),
});
export type Seal = z.infer<typeof zSeal>;

export const zSealReply = z.object({ digest: hex(32), length: u32, slots: u32, lost: u32.optional() });
export type SealReply = z.infer<typeof zSealReply>;

/** The reply's payload is whole records that verify, from the offset on. */
export const zReadRaw = z.object({
  block: zBlock,
  generation: u32,
  offset: u32,
  length: u32,
  /** From the first record in the range that verifies, wherever it starts. */
  sound: z.boolean().default(false),
});
export type ReadRaw = z.infer<typeof zReadRaw>;
export const zReadRawReply = z.object({
  /** Where the next record starts, and how many slots lie before it: the way around one that does not verify. */
  next: z.object({ offset: u32, slots: u32 }).optional(),
  /** Of the payload, where `sound` was asked for. */
  offset: u32.optional(),
  /** Before it lies what the disk failed to read: it may be sound. */
  unread: z.boolean().default(false),
});
export type ReadRawReply = z.infer<typeof zReadRawReply>;

/** The reply's payload is ops after `seq`, in the layout of an OPS payload; its header is an OPS header. */
export const zOpsTail = z.object({ block: zBlock, afterSeq: u32 });
export type OpsTail = z.infer<typeof zOpsTail>;

/** CAN_ORDER, between DataServers: whether the disk takes writes and a leader is in contact, without which nothing changes. */
export const zCanOrderReply = z.object({ able: z.boolean() });

/** Leading NameServer -> a replica whose ops log is behind: fetch the rest from the sequencer. */
export const zSyncOps = z.object({ block: zBlock, reign: zReign, from: zMember });
export type SyncOps = z.infer<typeof zSyncOps>;
export const zSyncOpsReply = z.object({ seq: u32 });

/** New leader -> DataServer: promise this reign now instead of at the next heartbeat. */
export const zPromise = z.object({ reign: zReign });
export type PromiseOrder = z.infer<typeof zPromise>;
/** What is promised afterwards; a higher one than asked for means that the asker does not lead any more. */
export const zPromiseReply = z.object({ server: zServer, incarnation: zIncarnation, promise: zReign });
export type PromiseReply = z.infer<typeof zPromiseReply>;

/**
 * Leader -> the member that is to sequence the operations of a block from now on: bring the logs of all members
 * together, then begin `version` with them.
 */
export const zConfigure = z.object({
  block: zBlock,
  reign: zReign,
  version: zVersion,
  /** The receiver is one of them, and the new opsPrimary. */
  members: z.array(zMember).min(1).max(8),
});
export type Configure = z.infer<typeof zConfigure>;
export const zConfigureReply = z.object({ version: zVersion, seq: u32 });
export type ConfigureReply = z.infer<typeof zConfigureReply>;

/** New opsPrimary -> member: take no more operations of an older version, and tell the log. */
export const zPrepareOps = z.object({ block: zBlock, reign: zReign, version: zVersion });
export type PrepareOps = z.infer<typeof zPrepareOps>;
/** The payload is all sequenced operations of the log, in the layout of an OPS payload. */
export const zPrepareOpsReply = z.object({ version: zVersion, seq: u32 });
export type PrepareOpsReply = z.infer<typeof zPrepareOpsReply>;

/** New opsPrimary -> member: operations that begin the new version; durable when answered. Payload as of OPS. */
export const zInstallOps = z.object({ block: zBlock, reign: zReign, version: zVersion });
export type InstallOps = z.infer<typeof zInstallOps>;

/** Member of a block -> leader: these members cannot be reached, and an operation waits for them. */
export const zRequestCfg = z.object({
  server: zServer,
  incarnation: zIncarnation,
  block: zBlock,
  failed: z.array(zServer).max(8),
  /** A change that was begun and not finished stands in the way: begin another version, even with the same members. */
  renew: z.boolean().default(false),
  /** The copy of a member that failed is damaged: nothing is changed unless another one has a sound copy. */
  sound: z.boolean().default(false),
});
export type RequestCfg = z.infer<typeof zRequestCfg>;
export type ConfigurationWish = Partial<Pick<RequestCfg, 'renew' | 'sound'>>;
/** The configuration as it is now. */
export const zRequestCfgReply = z.object({
  version: zVersion,
  opsPrimary: zServer,
  members: z.array(zMember).min(1).max(8),
});
export type RequestCfgReply = z.infer<typeof zRequestCfgReply>;

/** Leader -> a server whose sealed replica is bad, incomplete or gone: make a whole one from these. */
export const zRepair = z.object({
  block: zBlock,
  reign: zReign,
  generation: u32,
  seal: zSealFact,
  /** The newest configuration known: operations are taken only from a source that holds it. */
  version: zVersion,
  sources: z.array(zMember).min(1).max(8),
  /** The receiver is no member of the block and is to become one: a copy more. */
  joins: z.boolean().default(false),
  /** What the disk of the receiver fails to read, and nobody else has, may be given up. */
  mayLoseUnread: z.boolean().optional(),
});
export type Repair = z.infer<typeof zRepair>;
export const zRepairReply = z.object({
  /** Whether the replica verifies now, digest and every record. */
  whole: z.boolean(),
  /** Records that were fetched from others. */
  fetched: u32,
  /** Records that verify on no replica. */
  lost: u32,
});
export type RepairReply = z.infer<typeof zRepairReply>;

/**
 * Leader -> a server whose sealed replica the block does not need: let go of it. `version` is the newest configuration,
 * which this replica does not belong to; `retired`: the block is empty and goes with all of its replicas. `missing`: servers that
 * the leader does not know everything of, so that one of them may hold more of the block.
 */
export const zDrop = z.object({
  block: zBlock,
  reign: zReign,
  generation: u32,
  version: zVersion,
  reason: z.enum(['moved', 'excess', 'retired']),
  missing: z.array(zServer).optional(),
});
export type Drop = z.infer<typeof zDrop>;
/** Whether there was one; in either case there is none now, and none comes back by itself. */
export const zDropReply = z.object({ dropped: z.boolean() });
export type DropReply = z.infer<typeof zDropReply>;

/** DataServer -> DataServer: the superblock, as payload, and what is known of the block. */
export const zBlockHead = z.object({ block: zBlock });
export type BlockHead = z.infer<typeof zBlockHead>;
export const zBlockHeadReply = z.object({ generation: u32, state: u16, seal: zSealFact.optional() });
export type BlockHeadReply = z.infer<typeof zBlockHeadReply>;

/** Leading NameServer -> a holder of a sealed block: what its replica is, to be compared with the others. */
export const zBlockDigests = z.object({ block: zBlock });
export type BlockDigests = z.infer<typeof zBlockDigests>;
export const zBlockDigestsReply = z.object({
  generation: u32,
  /** Absent while it waits for its seal. */
  seal: zSealFact.optional(),
  /** Place of the newest operation in its log. */
  version: zVersion,
  seq: u32,
  /** `opsDigest` of what its operations add up to. */
  ops: hex(32),
  /** Wall clock there: when the replica was last read through, and was then as its seal says; absent for never. */
  scrubbedAtMs: z.number().optional(),
});
export type BlockDigestsReply = z.infer<typeof zBlockDigestsReply>;

/** NameServer -> the other NameServer. */
export const zPeerState = z.object({
  nameserver: z.number().int().min(0).max(1),
  reign: zReign,
  leads: z.boolean(),
});
export type PeerState = z.infer<typeof zPeerState>;
export const zPeerStateReply = z.object({
  reign: zReign,
  leads: z.boolean(),
  /** It has heard a DataServer lately, and would lead well. */
  able: z.boolean(),
});
export type PeerStateReply = z.infer<typeof zPeerStateReply>;

/** A leader that stops -> the standby: lead now. */
export const zHandOver = z.object({ nameserver: z.number().int().min(0).max(1), reign: zReign });
export type HandOver = z.infer<typeof zHandOver>;

/** Operator -> NameServer: lead. `force` asks neither the lock nor the other NameServer. */
export const zPromote = z.object({ force: z.boolean() });
export type Promote = z.infer<typeof zPromote>;
export const zPromoteReply = z.object({ reign: zReign, leads: z.boolean() });
export type PromoteReply = z.infer<typeof zPromoteReply>;

/**
 * Operator -> leading NameServer: this DataServer is lost for good, nobody waits for it any more. `force` also where that
 * loses pictures, or may.
 */
export const zRemoveServer = z.object({ server: zServer, force: z.boolean() });
export type RemoveServer = z.infer<typeof zRemoveServer>;
export const zRemoveServerReply = z.object({
  /** All that were ever removed. */
  removed: z.array(zServer),
  /** Durable on both NameServers; else the other one hears it from the DataServers. */
  onBoth: z.boolean(),
});
export type RemoveServerReply = z.infer<typeof zRemoveServerReply>;

/** Operator -> leading NameServer: this DataServer is to be emptied, or not any more. */
export const zDrainServer = z.object({ server: zServer, drained: z.boolean() });
export type DrainServer = z.infer<typeof zDrainServer>;
export const zDrainServerReply = z.object({
  /** All that are to be emptied. */
  drained: z.array(zServer),
  /** Durable on both NameServers; else the other one is told as soon as it answers. */
  onBoth: z.boolean(),
});
export type DrainServerReply = z.infer<typeof zDrainServerReply>;

/** NameServer -> the other NameServer, which also keeps it: of two lists that with the higher stamp counts. */
export const zServersDrained = z.object({ stamp: zVersion, servers: z.array(zServer).max(4096) });
export type ServersDrained = z.infer<typeof zServersDrained>;

/** NameServer -> the other NameServer. */
export const zServersRemoved = z.object({ removed: z.array(zServer).max(4096) });

/** Operator -> DataServer; the reply's payload is block entries. */
export const zListBlocks = z.object({});

/** Operator -> DataServer: read all of this replica. What does not verify makes it SUSPECT, which gets it repaired. */
export const zVerify = z.object({ block: zBlock });
export type Verify = z.infer<typeof zVerify>;
export const VERIFY_PROBLEMS_MAX = 10_000;
export const zVerifyReply = z.object({
  records: u32,
  bytes: z.number(),
  digest: hex(32).optional(),
  /** One line each, the first {@link VERIFY_PROBLEMS_MAX}. */
  problems: z.array(z.string().max(300)).max(VERIFY_PROBLEMS_MAX),
  /** All of them. */
  problemCount: u32,
});
export type VerifyReply = z.infer<typeof zVerifyReply>;

const zServerInfo = z.object({
  id: zServer,
  address: zAddress,
  adminPort: u16,
  state: z.enum(['up', 'down', 'missing']),
  capacityBytes: z.number(),
  domain: label,
  pid: z.number().int(),
  incarnation: zIncarnation,
  mount: z.string(),
  space: zSpace,
  io: zIo,
  heartbeatAgeMs: z.number(),
  blocks: z.number(),
  openBlocks: z.number(),
  files: z.number(),
  aliases: z.number(),
  /** Peers that it could not reach, or found slow, in the last minute. */
  suspects: z.array(zServer).default([]),
  /** Records on its disk that were sealed as lost. */
  lostRecords: z.number().default(0),
  /** It stops: nothing new is placed on it. */
  leaving: z.boolean().default(false),
  /** It is to be emptied: nothing new is placed on it, and its copies are made elsewhere. */
  drained: z.boolean().default(false),
  /** By how much its clock is ahead of this NameServer's, ms; negative: behind. */
  clockAheadMs: z.number().default(0),
});
export type ServerInfo = z.infer<typeof zServerInfo>;

/** Anyone -> NameServer. */
export const zClusterMap = z.object({
  clusterUuid: hex(16),
  /** 1..9: the second character of every name. */
  clusterDigit: z.number().int().min(1).max(9),
  reign: zReign,
  leader: z.boolean(),
  completeView: z.boolean(),
  /** DataServers of which it does not know everything. */
  missing: z.array(zServer).default([]),
  /** DataServers of which exactly what they hold is known, as digests show. */
  inStep: z.number().int().default(0),
  safeMode: z.boolean(),
  mapVersion: u32,
  replicas: z.number().int(),
  minWrite: z.number().int(),
  servers: z.array(zServerInfo).max(4096),
  /** Work on blocks, from the leader. */
  jobs: z
    .object({
      /** That need work, and the bytes of it. */
      wantedBlocks: z.number(),
      wantedBytes: z.number(),
      running: z.number(),
      parked: z.number(),
      /** Lately. */
      bytesPerSecond: z.number(),
      /** Until nothing of it is left, at that rate; absent where that cannot be said. */
      etaMs: z.number().optional(),
      /** Whether that is said of the copies that are missing alone; they are made before all else. */
      etaOfCopies: z.boolean().default(false),
      paused: z.array(z.string()).max(32),
      /** Why nothing is queued. */
      trouble: z.string().optional(),
    })
    .optional(),
  blocks: z.object({
    total: z.number(),
    open: z.number(),
    sealed: z.number(),
    awaitingSeal: z.number(),
    underReplicated: z.number(),
    suspect: z.number(),
    /** Blocks with 0, 1, 2, … good copies on servers that are up; the last figure counts more copies too. */
    byCopies: z.array(z.number()).max(16).default([]),
    /** Members of a block's configuration without a good copy that can be had now. */
    absent: z.number().default(0),
    /** Replicas on servers that are up and that lack, or may lack, acknowledged operations. */
    stale: z.number().default(0),
    /** Replicas whose superblock or operations log cannot be read. */
    quarantined: z.number().default(0),
    /** How long the block that has waited longest for its seal has waited; 0 when none does. */
    oldestUnsealedMs: z.number().default(0),
    /** Blocks with a replica that holds what its seal denies. */
    contradicted: z.number().default(0),
    /** Records that a repair found on no replica. */
    lostRecords: z.number().default(0),
    /** Blocks whose replicas are sound, each by itself, and not the same. */
    disagreeing: z.number().default(0),
    /** Since `underReplicated` and the copies began to be counted for the last time; -1 before the first time. */
    countedAgoMs: z.number().default(-1),
  }),
});
export type ClusterMap = z.infer<typeof zClusterMap>;

/**
 * Anyone -> NameServer: what people ask of the DataServers, and clients do not. The answer is this, for each of them, as
 * its payload.
 */
export const zServerFigures = z.array(
  z.object({ id: zServer, scrub: zScrubFigures.optional(), use: zSpaceUse.optional() }),
);
export type ServerFigures = z.infer<typeof zServerFigures>;

/** Anyone -> anyone. */
export const zStatus = z.object({
  kind: z.enum(['nameserver', 'dataserver', 'gateway']),
  id: z.string(),
  pid: z.number().int(),
  address: z.string(),
  mount: z.string().optional(),
  role: z.enum(['primary', 'standby']).optional(),
  state: z.string(),
  startedAtMs: z.number(),
  version: z.string(),
  details: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional(),
});
export type Status = z.infer<typeof zStatus>;

export const zEmpty = z.object({});

/** @throws TfsError PROTOCOL when the bytes are not JSON of that shape */
export function decodeControl<T>(schema: z.ZodType<T>, header: Buffer, what: string): T {
  let value: unknown;
  try {
    value = header.length === 0 ? {} : JSON.parse(header.toString('utf8'));
  } catch (cause) {
    throw new TfsError('PROTOCOL', `${what}: not JSON`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new TfsError('PROTOCOL', `${what}: ${issue?.path.join('.') ?? ''} ${issue?.message ?? 'malformed'}`);
}

export const encodeControl = (message: object): Buffer => Buffer.from(JSON.stringify(message), 'utf8');
