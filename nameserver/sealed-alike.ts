import { TfsError, toTfsError } from '../common/errors.ts';
import type { BlockHeadReply, Member, SealFact } from '../common/wire/control.ts';
import type { BlockFacts } from './block-facts.ts';
import type { RepairCommands } from './repair-commands.ts';

/**
 * Asks servers that should have a sealed block, for one that is to be copied from them.
 *
 * @returns those who answer and hold it as it was sealed, in their order, and how that was
 * @throws TfsError UNAVAILABLE when there is none; CONFLICT when they contradict each other
 */
export async function sealedAlike(
  { block, generation }: BlockFacts,
  asked: readonly Member[],
  { blockHead }: Pick<RepairCommands, 'blockHead'>,
): Promise<{ readonly members: Member[]; readonly seal: SealFact }> {
  const heads = await Promise.allSettled(asked.map((member) => blockHead(member, block)));
  const members: Member[] = [];
  let seal: BlockHeadReply['seal'];
  for (const [i, head] of heads.entries()) {
    if (head.status === 'rejected' || head.value.generation !== generation) continue;
    const found = head.value.seal;
    if (found === undefined) continue;
    const isOther = seal !== undefined && (seal.length !== found.length || seal.digest !== found.digest);
    if (isOther && generation > 0) {
      // Compacted under two leaders that did not know of each other: the later one stands.
      if (found.epoch < seal!.epoch) continue;
      members.length = 0;
    } else if (isOther)
      throw new TfsError(
        'CONFLICT',
        `replicas of block ${block} were sealed differently: they are sealed anew first`,
      );
    seal = seal === undefined || found.epoch > seal.epoch ? found : seal;
    members.push(asked[i]!);
  }
  if (seal !== undefined) return { members, seal };
  const failed = heads.find((head) => head.status === 'rejected');
  const why = failed === undefined ? '' : `: ${toTfsError(failed.reason).message}`;
  throw new TfsError('UNAVAILABLE', `no source of block ${block} answers${why}`);
}
