import type { BlockId, ServerId } from '../../common/ids.ts';
import type { PlanSight, ServerSight } from './sight.ts';

export interface TargetAsk {
  readonly block: BlockId;
  readonly bytes: number;
  /** Servers that hold it, should hold it, or are getting it. */
  readonly holders: ReadonlySet<ServerId>;
  /** Failure domains that copies which count are in. */
  readonly taken: ReadonlySet<string>;
  readonly sight: PlanSight;
}

/**
 * Where the next copy of a block goes: into a failure domain of its own, more likely to where there is more room. Drawn
 * from the block's id and not from chance, so that a later look at the same block, under the same conditions, says the
 * same, and so that the blocks of a lost disk go to all the others: rendezvous hashing with weights (Thaler and
 * Ravishankar, 1998; Schindelhauer and Schomaker, 2005).
 *
 * @returns the server; or why there is none
 */
export function chooseTarget(ask: TargetAsk): ServerId | string {
  const { block, taken, sight } = ask;
  const reasons: string[] = [];
  let best: { readonly id: ServerId; readonly key: number } | undefined;
  for (const server of sight.servers.values()) {
    if (ask.holders.has(server.id) || taken.has(server.domain)) continue;
    const why = unfit(server, ask);
    if (why !== undefined) {
      if (server.givenUp === undefined) reasons.push(`server ${server.id}: ${why}`);
      continue;
    }
    const key = -Math.log(hash(block, server.id)) / Math.max(1, server.roomBytes);
    if (best === undefined || key < best.key || (key === best.key && server.id < best.id))
      best = { id: server.id, key };
  }
  if (best !== undefined) return best.id;
  return reasons.length === 0
    ? 'no other failure domain has a DataServer'
    : `no other failure domain takes it (${reasons.sort().join('; ')})`;
}

/** @returns why the server takes no copy of this block, undefined where it does */
export function unfit(server: ServerSight, { block, bytes, sight }: TargetAsk): string | undefined {
  if (server.givenUp !== undefined) return server.givenUp;
  if (server.refuses !== undefined) return server.refuses;
  if (server.roomBytes < bytes) return 'too little room';
  return sight.isParked({ kind: 'replicate', block, server: server.id })
    ? 'it failed there several times'
    : undefined;
}

/** Uniform in (0, 1]; the last steps of MurmurHash3, by Appleby. */
export function hash(block: number, server: number): number {
  let h = Math.imul(block, 0xcc9e2d51) ^ Math.imul(server, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (((h ^ (h >>> 16)) >>> 0) + 1) / 0x1_0000_0000;
}
