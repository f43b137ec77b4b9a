import { TfsError } from '../../common/errors.ts';
import type { Millis } from '../../common/ids.ts';
import { LOCK_CALL_MS_MAX } from '../../common/limits.ts';
import type { LockStore } from '../../common/seams/lock-store.ts';
import { MemoryLockStore } from '../kit/memory-lock-store.ts';
import type { SimNetwork } from './network.ts';
import type { SimProcess } from './process.ts';
import { SimQueues } from './queues.ts';

/** The host that Redis runs on: it can be cut off like any other. */
export const REDIS_HOST = 'redis';

/** What Redis is to the cluster: the lock of the NameServers and the queues of jobs, with what may become of them. */
export class SimRedis {
  readonly locks: MemoryLockStore;
  readonly queues: SimQueues;
  readonly #network: SimNetwork;

  constructor(network: SimNetwork, seed: number) {
    this.#network = network;
    const { scheduler } = network;
    this.locks = new MemoryLockStore({ monotonic: () => scheduler.now as Millis });
    this.queues = new SimQueues(scheduler, seed, (process) => this.isReachable(process));
  }

  set isDown(isDown: boolean) {
    this.locks.isDown = isDown;
    this.queues.isDown = isDown;
  }

  isReachable(process: SimProcess): boolean {
    const network = this.#network;
    return !network.isBlocked(process.host, REDIS_HOST) && !network.isBlocked(REDIS_HOST, process.host);
  }

  /** FLUSHALL, or it has started again without a disk. */
  forget(): void {
    this.locks.forget();
    this.queues.flush();
  }

  heal(): void {
    this.isDown = false;
    this.locks.grantsAll = false;
    this.queues.faults = {};
  }

  /** The lock as this process reaches it: what was asked may be done although the answer is lost. */
  lockFor(process: SimProcess): LockStore {
    const call = <T>(ask: () => Promise<T>): Promise<T> =>
      new Promise((resolve, reject) => {
        const to = this.#network.latency(process.host, REDIS_HOST);
        const back = this.#network.latency(REDIS_HOST, process.host);
        const unanswered = () => reject(new TfsError('UNAVAILABLE', 'the lock store did not answer'));
        if (!this.isReachable(process)) {
          process.at(LOCK_CALL_MS_MAX, 'lock unanswered', unanswered);
          return;
        }
        this.#network.scheduler.at(to, undefined, 'lock', () => {
          const done = ask();
          // It may be told only later, or never.
          done.catch(() => undefined);
          if (to + back > LOCK_CALL_MS_MAX || !this.isReachable(process))
            process.at(Math.max(0, LOCK_CALL_MS_MAX - to), 'lock unanswered', unanswered);
          else process.at(back, 'lock answered', () => done.then(resolve, reject));
        });
      });
    return {
      take: (ask) => call(() => this.locks.take(ask)),
      release: (owner) => call(() => this.locks.release(owner)),
      close: async () => undefined,
    };
  }
}
