import { TfsError } from '../common/errors.ts';
import type { Incarnation, ServerId } from '../common/ids.ts';
import { RPC_MS_DEFAULT } from '../common/limits.ts';
import { type Changes, zChanges } from '../common/wire/changes.ts';
import { decodeControl, encodeControl } from '../common/wire/control.ts';
import { Op } from '../common/wire/messages.ts';
import type { Caller } from './caller.ts';
import type { ClusterMapCache } from './cluster-map.ts';

/** Where the last answer of that DataServer ended; `{ from: 0 }` before the first. */
export interface ChangesAsk {
  readonly incarnation?: Incarnation;
  readonly from: number;
}

/** @throws TfsError UNAVAILABLE; PROTOCOL for an answer that is none */
export async function changesOn(
  { caller, map }: { readonly caller: Caller; readonly map: Pick<ClusterMapCache, 'addressOf'> },
  server: ServerId,
  ask: ChangesAsk,
): Promise<Changes> {
  const address = map.addressOf(server);
  if (address === undefined) throw new TfsError('UNAVAILABLE', `server ${server} is not in the cluster map`);
  const { payload } = await caller.call(address, Op.CHANGES, encodeControl(ask), undefined, RPC_MS_DEFAULT);
  return decodeControl(zChanges, payload, 'answer to CHANGES');
}
