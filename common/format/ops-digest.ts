import { createHash } from 'node:crypto';
import type { OpsState } from './ops-state.ts';

/**
 * SHA-256 over what the operations of a block add up to, for comparing replicas that hold the same ones: configuration,
 * state of every slot, aliases. Not over SEAL and GEN_COMMIT, which are facts of each replica, nor over op ids, of which
 * a log that was put together from several may remember others.
 */
export function opsDigest({ version, seq, cfg, slotFlags, aliases }: OpsState): Buffer {
  const hash = createHash('sha256');
  const numbers = (...values: number[]): void => {
    hash.update(Buffer.from(Float64Array.from(values).buffer));
  };
  numbers(version.epoch, version.n, seq, cfg?.opsPrimary ?? 0, ...(cfg?.members ?? []));
  // How far the column reaches depends on how it grew.
  let slots = slotFlags.length;
  while (slots > 0 && slotFlags[slots - 1] === 0) slots--;
  numbers(slots, aliases?.count ?? 0);
  hash.update(slotFlags.subarray(0, slots));
  const rows = new Uint32Array(4 * (aliases?.count ?? 0));
  for (let i = 0; i < (aliases?.count ?? 0); i++)
    rows.set([aliases!.idAt(i), aliases!.cookieAt(i), aliases!.targetAt(i), aliases!.flagsAt(i)], 4 * i);
  hash.update(Buffer.from(rows.buffer));
  return hash.digest();
}
