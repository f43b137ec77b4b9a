import { CacheSender, type PurgeReason } from '../../client/gateway/purge/sender.ts';
import { purgeTargets, tiersOf } from '../../client/gateway/purge/target.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import type { Config } from '../../common/config.ts';
import { toTfsError } from '../../common/errors.ts';

/** What one cache said to one name. */
export interface CachePurge {
  readonly name: string;
  readonly cache: string;
  /** Why it is not purged; absent where it is. */
  readonly failure?: string;
}

/** Sent to one cache before the next are. */
const AT_A_TIME = 1_000;

/**
 * Purges names from every configured cache, now and once; nothing is put into the queue.
 *
 * @param names 18 characters each
 * @returns one for each name and cache; empty where no cache is configured
 * @throws TfsError CONFIG when the secrets of the caches cannot be read
 */
export async function purgeNames(
  config: Config,
  names: readonly string[],
  reason: PurgeReason,
): Promise<CachePurge[]> {
  const targets = await purgeTargets(config.home, config.purge);
  const tiers = tiersOf(targets).map((tier) => tier.map((target) => new CacheSender(target, nodeClock)));
  const done: CachePurge[] = [];
  try {
    for (let at = 0; at < names.length; at += AT_A_TIME) {
      const some = names.slice(at, at + AT_A_TIME);
      // A cache that was purged before the one that it asks would fetch the old answer from there.
      for (const senders of tiers)
        done.push(
          ...(await Promise.all(
            some.flatMap((name) => senders.map((sender) => purgeFrom(sender, name, reason))),
          )),
        );
    }
  } finally {
    await Promise.all(tiers.flat().map((sender) => sender.close()));
  }
  return done;
}

async function purgeFrom(sender: CacheSender, name: string, reason: PurgeReason): Promise<CachePurge> {
  const one = { name, cache: sender.target.id };
  try {
    await sender.purge(name, reason);
    return one;
  } catch (error) {
    return { ...one, failure: toTfsError(error).message };
  }
}
