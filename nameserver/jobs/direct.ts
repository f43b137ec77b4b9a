import { toTfsError } from '../../common/errors.ts';
import type { Incarnation, ServerId } from '../../common/ids.ts';
import { DIRECT_JOBS_RUNNING_MAX } from '../../common/limits.ts';
import type { Log } from '../../common/log.ts';
import { mark } from '../../common/marks.ts';
import type { Member, Reign } from '../../common/wire/control.ts';
import { reasonOf } from '../../common/wire/jobs.ts';
import { Priority, type Work } from '../planner/work.ts';
import type { RepairCommands } from '../repair-commands.ts';
import type { JobDesk } from './desk.ts';

export interface DirectDeps {
  readonly desk: Pick<JobDesk, 'give' | 'end'>;
  readonly commands: Pick<RepairCommands, 'repair'>;
  readonly reign: () => Reign | undefined;
  readonly reachable: (server: ServerId, reign: Reign) => Member | undefined;
  readonly log: Log;
}

/**
 * Copies of which there is one left are made at the leader's own command where there is no queue to put them into: a few
 * at a time, without the bounds of a queue's worker.
 */
export class DirectJobs {
  readonly stats = { started: 0 };
  readonly #deps: DirectDeps;
  readonly #running = new Map<string, Promise<void>>();
  #closed = false;

  constructor(deps: DirectDeps) {
    this.#deps = deps;
  }

  /** Starts what cannot wait, as far as there is room. @param wanted most urgent first */
  run(wanted: readonly Work[]): void {
    const reign = this.#deps.reign();
    if (this.#closed || reign === undefined) return;
    for (const work of wanted) {
      if (work.priority > Priority.ONE_COPY || this.#running.size >= DIRECT_JOBS_RUNNING_MAX) return;
      const key = `${work.block} ${work.target}`;
      const to = this.#deps.reachable(work.target, reign);
      if (work.kind !== 'replicate' || to === undefined || this.#running.has(key)) continue;
      this.#running.set(
        key,
        this.#one(work, to).finally(() => this.#running.delete(key)),
      );
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#running.values());
  }

  async #one(work: Work, to: Member): Promise<void> {
    const { desk, commands, log } = this.#deps;
    const { kind, block, target: server } = work;
    const incarnation: Incarnation = to.incarnation;
    const ask = { kind, block, server, incarnation };
    try {
      const given = await desk.give(ask);
      if (typeof given === 'string' || given.answer !== 'replicate') return;
      this.stats.started++;
      mark('job-without-queue');
      log.info({ block, server, reason: work.reason }, 'a copy is made without a queue');
      await commands.repair(to, given.order);
      desk.end({ ...ask, bytes: work.bytes });
    } catch (error) {
      const failure = reasonOf(toTfsError(error).message);
      log.warn({ block, server, reason: failure }, 'a copy could not be made without a queue');
      desk.end({ ...ask, failure, bytes: 0 });
    }
  }
}
