/** Gateway -> DataServer: which names changed their state lately? For the caches in front of gateways. */

import { z } from 'zod';
import type { Cookie, FileId } from '../ids.ts';
import { CHANGES_PER_ANSWER_MAX } from '../limits.ts';
import { u32, zBlock, zIncarnation } from './control.ts';

/** What happened to the name. The order is that of numbers in memory, and nothing else. */
export const ChangeKinds = ['delete', 'undelete', 'hide', 'reveal'] as const;
export type ChangeKind = (typeof ChangeKinds)[number];

const counter = z.number().int().min(0);

/** Numbers of changes mean something to the process that gave them alone, so its incarnation stands beside them. */
export const zChangesAsk = z.object({
  /** Of the DataServer, as in its last answer; absent the first time, and then it begins at its oldest. */
  incarnation: zIncarnation.optional(),
  /** `next` of that answer. */
  from: counter,
});

const zChange = z.object({
  block: zBlock,
  fileId: u32.transform((n) => n as FileId),
  cookie: u32.transform((n) => n as Cookie),
  kind: z.enum(ChangeKinds),
  /** As its operation is dated, ms since 1970. With block, file id and kind it tells one change from all others. */
  atMs: z.number(),
});
export type Change = z.infer<typeof zChange>;

/** The answer, as a payload. */
export const zChanges = z.object({
  incarnation: zIncarnation,
  changes: z.array(zChange).max(CHANGES_PER_ANSWER_MAX),
  /** Where to go on. */
  next: counter,
  /** There is more now. */
  more: z.boolean(),
  /** Changes that are not told because the records of their names do not read on this DataServer. */
  unread: counter,
  /** Changes of the last day that had no room in memory, and that were not told to whoever asks. */
  missed: counter,
});
export type Changes = z.infer<typeof zChanges>;
