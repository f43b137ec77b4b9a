/** What an operator asks the leading NameServer about work on blocks: see `control.ts`. */

import { z } from 'zod';
import { JOB_KINDS } from '../jobs.ts';
import { WANTED_MAX } from '../limits.ts';
import { u32, zBlock, zServer } from './control.ts';

const zKind = z.enum(JOB_KINDS);
const text = z.string().max(2000);
const amount = z.number().min(0);

const zWork = z.object({
  kind: zKind,
  block: zBlock,
  server: zServer,
  priority: u32,
  reason: text,
  bytes: amount,
});
export type SaidWork = z.infer<typeof zWork>;

const zAmount = z.object({ kind: zKind, blocks: amount, bytes: amount });

/** Running, waiting and parked jobs: at most so many of each are told. */
export const TOLD_JOBS_MAX = 1000;
const zTold = z.number().int().min(0).max(TOLD_JOBS_MAX);

export const zAskJobs = z.object({ max: zTold });
export const zJobsReply = z.object({
  /** Why nothing is queued; absent while it is. */
  trouble: text.optional(),
  paused: z.array(zKind),
  /** What is wanted in all, of each kind; absent before it was counted. */
  amounts: z.array(zAmount).optional(),
  /** Lately. */
  bytesPerSecond: amount,
  /** Until nothing of it is left, at that rate; absent where that cannot be said. */
  etaMs: amount.optional(),
  /** Whether that is said of the copies that are missing alone; they are made before all else. */
  etaOfCopies: z.boolean().default(false),
  running: z.array(zWork.extend({ forMs: amount })),
  parked: z.array(
    z.object({ kind: zKind, block: zBlock, server: zServer, count: u32, agoMs: amount, reason: text }),
  ),
  /** Of the DataServers that are there; none where the queue does not answer. */
  queues: z.array(z.object({ server: zServer, waiting: amount, running: amount, parked: amount })),
});
export type JobsReply = z.infer<typeof zJobsReply>;

export const zAskPlan = z.object({ max: z.number().int().min(0).max(WANTED_MAX) });
export const zPlanReply = z.object({
  /** Most urgent first; absent before the first round over the map, and in safe mode. */
  work: z.array(zWork).optional(),
  amounts: z.array(zAmount),
  paused: z.array(zKind),
});
export type PlanReply = z.infer<typeof zPlanReply>;

export const zAskWhy = z.object({ block: zBlock });
export const zWhyReply = z.object({
  block: zBlock,
  state: z.string(),
  generation: u32,
  length: u32,
  wanted: u32,
  deadBytes: amount,
  version: z.object({ epoch: z.number(), n: z.number() }),
  replicas: z.array(z.object({ server: zServer, domain: z.string(), says: z.array(z.string()) })),
  work: z.array(zWork),
  /** What is wanted and cannot be done now. */
  blocked: z.array(z.object({ kind: zKind, why: text })),
  running: z.array(zWork.extend({ forMs: amount })),
  parked: z.array(z.object({ kind: zKind, server: zServer, count: u32, agoMs: amount, reason: text })),
});
export type WhyReply = z.infer<typeof zWhyReply>;

/** To each NameServer, so that it holds whoever leads. Durable when answered. */
export const zPauseJobs = z.object({ kind: zKind, paused: z.boolean() });
export const zPauseJobsReply = z.object({ paused: z.array(zKind) });
