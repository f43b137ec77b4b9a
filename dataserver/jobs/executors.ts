import type { JobOrder } from '../../common/wire/jobs.ts';
import type { Pace, ReplicaRepair } from '../repair.ts';

export interface ExecutorContext {
  readonly repair: Pick<ReplicaRepair, 'make'>;
  readonly pace: Pace;
}

/** @throws TfsError where it is not done */
type Executor<O extends JobOrder> = (order: O, context: ExecutorContext) => Promise<void>;

/** How each kind of order is carried out. A new kind is a line here. */
const EXECUTORS: { readonly [A in JobOrder['answer']]: Executor<Extract<JobOrder, { answer: A }>> } = {
  replicate: async ({ order }, { repair, pace }) => {
    await repair.make(order, pace);
  },
};

export const carryOut = (order: JobOrder, context: ExecutorContext): Promise<void> =>
  EXECUTORS[order.answer](order, context);
