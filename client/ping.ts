import { TfsError } from '../common/errors.ts';
import type { HostPort } from '../common/ids.ts';
import { PROBE_MS_MAX } from '../common/limits.ts';
import { EMPTY_BUFFER, Op } from '../common/wire/messages.ts';
import type { Caller } from './caller.ts';

/** Asks for a sign of life: answered by the process itself, whatever its disk does. @throws TfsError when there is none */
export async function ping(caller: Caller, address: HostPort | undefined): Promise<void> {
  if (address === undefined) throw new TfsError('UNAVAILABLE', 'not in the cluster map');
  await caller.call(address, Op.PING, EMPTY_BUFFER, undefined, PROBE_MS_MAX);
}
