import type { PurgeCacheConfig, PurgeConfig } from '../../../common/config-purge.ts';
import { readPurgeSecrets } from '../../../common/purge-secrets.ts';

/** A cache in front, with the secrets that it is spoken to with. */
export interface PurgeTarget extends PurgeCacheConfig {
  /** What a webhook is signed with. */
  readonly keys: readonly Buffer[];
}

/** @throws TfsError CONFIG, see {@link readPurgeSecrets} */
export async function purgeTargets(home: string, purge: PurgeConfig): Promise<PurgeTarget[]> {
  const secrets = await readPurgeSecrets(home, purge);
  return purge.caches.map((cache) => {
    const { keys, headers } = secrets.get(cache.id)!;
    return { ...cache, keys, headers: { ...cache.headers, ...headers } };
  });
}

/** Those that ask the gateways first, then those that ask them, and so on. */
export function tiersOf<T extends Pick<PurgeTarget, 'tier'>>(targets: readonly T[]): T[][] {
  const tiers = [...new Set(targets.map(({ tier }) => tier))].sort((a, b) => a - b);
  return tiers.map((tier) => targets.filter((target) => target.tier === tier));
}
