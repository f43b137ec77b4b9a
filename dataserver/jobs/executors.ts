import { tunable } from '../../common/tunables.ts';
import { type Compact, zCompactReply } from '../../common/wire/compaction.ts';
import type { JobOrder } from '../../common/wire/jobs.ts';
import { Op } from '../../common/wire/messages.ts';
import type { NameServers } from '../nameservers.ts';
import type { Pace, ReplicaRepair } from '../repair.ts';
import type { Scrubber } from '../scrub/scrubber.ts';

export interface ExecutorContext {
  readonly repair: Pick<ReplicaRepair, 'make'>;
  readonly scrubber: Pick<Scrubber, 'readThrough'>;
  readonly nameservers: Pick<NameServers, 'callLeader'>;
  readonly pace: Pace;
  /** Counts what was moved elsewhere, and so at another pace. */
  readonly moved: (bytes: number) => void;
}

/** @throws TfsError where it is not done */
type Executor<O extends JobOrder> = (order: O, context: ExecutorContext) => Promise<void>;
type Of<A extends JobOrder['answer']> = Extract<JobOrder, { answer: A }>;

/** How each kind of order is carried out. A new kind is a line here. */
const EXECUTORS: { readonly [A in JobOrder['answer']]: Executor<Of<A>> } = {
  replicate: async ({ order }, { repair, pace }) => {
    await repair.make(order, pace);
  },
  compact: (order, context) => askForCompaction(order, 'share', context),
  purge: (order, context) => askForCompaction(order, 'noted', context),
  scrub: ({ block }, { scrubber, pace }) => scrubber.readThrough(block, pace),
};

async function askForCompaction(
  { block, bytes }: Of<'compact' | 'purge'>,
  gain: Compact['gain'],
  { nameservers, moved }: ExecutorContext,
): Promise<void> {
  const reply = await nameservers.callLeader(
    Op.COMPACT,
    { block, gain },
    zCompactReply,
    tunable.compactMsMax,
  );
  if (reply.freedBytes > 0) moved(bytes);
}

export const carryOut = <A extends JobOrder['answer']>(
  order: Of<A>,
  context: ExecutorContext,
): Promise<void> => (EXECUTORS[order.answer as A] as Executor<Of<A>>)(order, context);

/** Bytes of the replica that it concerns. */
export const lengthOf = (order: JobOrder): number =>
  order.answer === 'replicate' ? order.order.seal.length : order.bytes;
