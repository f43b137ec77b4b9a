import { CLIENT_BACKOFF_MS_MAX, CLIENT_BACKOFF_MS_MIN } from '../common/limits.ts';
import type { Random } from '../common/seams/random.ts';

/** @param round how many rounds have failed, from 1 @returns milliseconds to wait; jitter keeps clients from marching in step */
export function backoffMs(round: number, random: Random): number {
  const full = Math.min(CLIENT_BACKOFF_MS_MAX, CLIENT_BACKOFF_MS_MIN * 2 ** (round - 1));
  return full * (0.5 + random.float() / 2);
}
