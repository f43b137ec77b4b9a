import { decodeName, NAME_LENGTH } from '../../../common/name.ts';
import { ChangeKinds } from '../../../common/wire/changes.ts';
import type { Purge } from './outstanding.ts';
import type { PurgeReason } from './sender.ts';

const REASONS: readonly unknown[] = ['changed', 'request', ...ChangeKinds] satisfies PurgeReason[];

/**
 * What a job asks for. Whoever reaches Redis can have written it, so only a name of this cluster gets any further, and
 * where it is sent the configuration says.
 *
 * @returns undefined for what is no purge
 */
export function purgeOfJob(cache: string, payload: unknown, clusterDigit: number): Purge | undefined {
  if (typeof payload !== 'object' || payload === null) return undefined;
  const { name, reason, atMs } = payload as Partial<Record<keyof Purge, unknown>>;
  if (typeof name !== 'string' || name.length !== NAME_LENGTH) return undefined;
  if (decodeName(name)?.clusterDigit !== clusterDigit) return undefined;
  if (!REASONS.includes(reason) || typeof atMs !== 'number' || !Number.isFinite(atMs)) return undefined;
  return { cache, name, reason: reason as PurgeReason, atMs };
}
