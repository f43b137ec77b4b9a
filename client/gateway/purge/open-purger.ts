import { forAMoment } from '../../../common/adapters/bull-connection.ts';
import { BullLink } from '../../../common/adapters/bull-link.ts';
import type { Config } from '../../../common/config.ts';
import type { Log } from '../../../common/log.ts';
import type { Metrics } from '../../../common/metrics.ts';
import { redisAddress } from '../../../common/redis-address.ts';
import type { Clock } from '../../../common/seams/clock.ts';
import type { TfsClient } from '../../client.ts';
import { PurgeQueue } from './purge-queue.ts';
import { Purger } from './purger.ts';
import { purgeTargets } from './target.ts';

/** For each of the two, so that a gateway stops in time. */
const CLOSE_MS_MAX = 1_500;

export interface OpenPurgerOptions {
  readonly config: Config;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly client: TfsClient;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface OpenedPurger {
  readonly purger: Purger;
  close(): Promise<void>;
}

/**
 * What tells the configured caches; Redis need not be there, now or ever.
 *
 * @returns undefined where no cache is configured: then nothing is asked, kept or connected to
 * @throws TfsError CONFIG for secrets that are missing or wrong
 */
export async function openPurger(options: OpenPurgerOptions): Promise<OpenedPurger | undefined> {
  const { config, env, client, clock, log, metrics } = options;
  if (config.purge.caches.length === 0) return undefined;
  const targets = await purgeTargets(config.home, config.purge);
  const link = BullLink.open({
    url: await redisAddress(config, env),
    clusterUuid: config.cluster.uuid,
    log,
  });
  const { scanMs } = config.purge;
  const queue = new PurgeQueue(link);
  const purger = Purger.open({ targets, client, queue, scanMs, clock, log, metrics });
  return {
    purger,
    close: async () => {
      // Whatever it says goodbye to, nobody waits for that: requests may have taken most of the time that a stop has.
      await forAMoment(CLOSE_MS_MAX, purger.close());
      await forAMoment(CLOSE_MS_MAX, link.close());
    },
  };
}
