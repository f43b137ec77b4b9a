import { z } from 'zod';

/** One reading of all sealed replicas of a disk, as far as it has come. Dates are of the DataServer's wall clock. */
export const zScrubPass = z.object({
  startedAtMs: z.number(),
  /** Absent while it is under way. */
  endedAtMs: z.number().optional(),
  fullSpeed: z.boolean(),
  replicas: z.number().int(),
  bytes: z.number(),
  /** Replicas that did not verify. */
  damaged: z.number().int(),
  /** Places where they did not. */
  problems: z.number().int(),
});
export type ScrubPass = z.infer<typeof zScrubPass>;

/** How the scrub of one DataServer stands. */
export const zScrubFigures = z.object({
  /** The pass under way, or the last one. Absent before the first. */
  pass: zScrubPass.optional(),
  /** Still to be read in it. */
  leftReplicas: z.number().int(),
  leftBytes: z.number(),
  /** Over the last seconds. */
  bytesPerSecond: z.number(),
  /** It rests because reads of pictures would wait for it. */
  restsForReads: z.boolean(),
  /** The last pass that was completed. */
  last: zScrubPass.optional(),
  /** Replicas on this disk that do not verify now, whoever found that out. */
  suspects: z.number().int(),
});
export type ScrubFigures = z.infer<typeof zScrubFigures>;

/** Operator -> DataServer. The answer is {@link zScrubFigures}. */
export const zScrub = z.object({
  /**
   * `no`: only how it stands. `pass`: begin a pass now, unless one is under way. `full-speed`: begin one in any case, and
   * spare nobody.
   */
  begin: z.enum(['no', 'pass', 'full-speed']).default('no'),
});
export type Scrub = z.infer<typeof zScrub>;
