import type { BlockId, ServerId } from '../../common/ids.ts';

/** One thing that is not as it should be. */
export interface Finding {
  readonly server: ServerId;
  readonly block: BlockId;
  /** A clause; begins with "bytes A to B (slot N)" where it is about a part of the block's file. */
  readonly problem: string;
}

export const replicaKey = (server: ServerId, block: BlockId): string => `${server}/${block}`;

/**
 * Records for which no replica that was read has sound bytes.
 *
 * @param holders how many replicas of each block were read
 */
export function lostRecords(findings: readonly Finding[], holders: ReadonlyMap<BlockId, number>): number {
  const servers = new Map<string, Set<ServerId>>();
  for (const { server, block, problem } of findings) {
    const where = /^bytes \d+ to \d+ \(slot \d+\)/.exec(problem)?.[0];
    if (where === undefined || problem.includes('padding')) continue;
    const key = `${block} ${where}`;
    servers.set(key, (servers.get(key) ?? new Set()).add(server));
  }
  let lost = 0;
  for (const [key, bad] of servers) {
    const block = Number(key.slice(0, key.indexOf(' '))) as BlockId;
    if (bad.size >= (holders.get(block) ?? 1)) lost++;
  }
  return lost;
}
