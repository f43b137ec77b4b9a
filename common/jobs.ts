/**
 * Work on blocks that can wait: kinds of it, and what stands in a queue for one. A job is a hint. Whoever takes one asks
 * the leader what is to be done, and does that, whatever the job says.
 */

import { z } from 'zod';
import { TfsError } from './errors.ts';
import type { BlockId } from './ids.ts';

/** Kinds of work that are queued. */
export const JOB_KINDS = ['purge', 'replicate', 'balance', 'compact', 'scrub'] as const;
export type JobKind = (typeof JOB_KINDS)[number];

/** What a job does to a replica, whatever it does it for: at most one of each is under way on a replica. */
export const TASKS = {
  purge: 'compact',
  replicate: 'copy',
  balance: 'copy',
  compact: 'compact',
  scrub: 'scrub',
} as const satisfies Record<JobKind, string>;

/**
 * Kinds that can wait for days. Of these together a DataServer does one job at a time, so that there is always another
 * place for what is urgent.
 */
const PATIENT: ReadonlySet<JobKind> = new Set(['compact', 'scrub']);
export const isPatient = (kind: JobKind): boolean => PATIENT.has(kind);

const zPayload = z.object({
  kind: z.enum(JOB_KINDS),
  block: z
    .number()
    .int()
    .min(0)
    .max(0xffff_ffff)
    .transform((n) => n as BlockId),
  /** Of the planner, in the reign that queued it. */
  round: z.number().int().min(0),
});
export type JobPayload = z.output<typeof zPayload>;

/** @throws TfsError BAD_REQUEST for what no leader has queued: it is not to be tried again */
export function decodeJob(payload: unknown): JobPayload {
  const parsed = zPayload.safeParse(payload);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new TfsError('BAD_REQUEST', `not a job: ${issue?.path.join('.')} ${issue?.message}`);
}

/** Never the same twice, because a queue ignores an id that it has seen fail. */
export const jobIdOf = ({ kind, block, round }: JobPayload, epoch: number): string =>
  `${kind}-${block}-${epoch}-${round}`;
