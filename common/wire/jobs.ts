/** Control messages about jobs: see `control.ts`. */

import { z } from 'zod';
import { JOB_KINDS } from '../jobs.ts';
import { u32, zBlock, zIncarnation, zRepair, zServer } from './control.ts';

const zKind = z.enum(JOB_KINDS);
const REASON_CHARS_MAX = 1000;

/** DataServer -> leading NameServer: a queue says that this may be to do. Is it, and what exactly? */
export const zTakeJob = z.object({
  kind: zKind,
  block: zBlock,
  server: zServer,
  incarnation: zIncarnation,
  /** Of the planner, as the job has it: for the log. */
  round: z.number().int().min(0),
});
export type TakeJob = z.infer<typeof zTakeJob>;

const zUnwanted = z.object({ answer: z.literal('unwanted'), why: z.string().max(REASON_CHARS_MAX) });
/** What the leader orders, under its reign; to be over, or given up, within the time. */
const zReplicate = z.object({
  answer: z.literal('replicate'),
  order: zRepair,
  /** For all jobs of this DataServer together. */
  bytesPerSecond: z.number().positive(),
  /** From when the question was sent. Later the leader may have somebody else do it. */
  msMax: z.number().positive(),
});
/** Nothing is ordered but to ask for the compaction, with COMPACT: the leader commands the steps of it. */
const zCompaction = z.object({
  answer: z.literal('compact'),
  block: zBlock,
  bytes: u32,
  bytesPerSecond: z.number().positive(),
  msMax: z.number().positive(),
});
/** The same, of the records that the leader has noted. */
const zPurging = zCompaction.extend({ answer: z.literal('purge') });
/** The DataServer reads its own replica through. */
const zScrubbing = zCompaction.extend({ answer: z.literal('scrub') });
export const zTakeJobReply = z.discriminatedUnion('answer', [
  zUnwanted,
  zReplicate,
  zCompaction,
  zPurging,
  zScrubbing,
]);
export type TakeJobReply = z.infer<typeof zTakeJobReply>;
export type JobOrder = Exclude<TakeJobReply, { answer: 'unwanted' }>;

/** DataServer -> leading NameServer: what became of what was ordered. It may be lost. */
export const zEndJob = z.object({
  kind: zKind,
  block: zBlock,
  server: zServer,
  incarnation: zIncarnation,
  /** Absent where it is done. */
  failure: z.string().max(REASON_CHARS_MAX).optional(),
  /** That were moved or read. */
  bytes: u32,
});
export type EndJob = z.infer<typeof zEndJob>;

/** @returns text that fits a message */
export const reasonOf = (text: string): string => text.slice(0, REASON_CHARS_MAX);
