import type { z } from 'zod';
import type { Config } from '../../common/config.ts';
import { TfsError, toTfsError } from '../../common/errors.ts';
import type { Peers } from '../../common/wire/peers.ts';

const ASK_MS_MAX = 10_000;

/**
 * Asks the NameServer that leads.
 *
 * @throws TfsError what it said; of one that does not lead, or does not answer, only where there is no other
 */
export async function askLeader<T>(
  peers: Peers,
  { nameservers }: Config,
  {
    op,
    message,
    schema,
    deadlineMs = ASK_MS_MAX,
  }: {
    readonly op: number;
    readonly message: object;
    readonly schema: z.ZodType<T>;
    readonly deadlineMs?: number;
  },
): Promise<T> {
  let last: TfsError | undefined;
  for (const { host, port } of nameservers) {
    try {
      return (await peers.callControl({ host, port }, op, message, schema, undefined, deadlineMs)).message;
    } catch (error) {
      const failure = toTfsError(error);
      // Its word counts; one that does not lead or does not answer has none.
      if (failure.code === 'CONFLICT' || !failure.retryable) throw failure;
      if (failure.code !== 'NOT_LEADER' || last === undefined) last = failure;
    }
  }
  throw last ?? new TfsError('UNAVAILABLE', 'no NameServer is configured');
}
