import type { Command } from 'commander';
import { COMPACT_MS_MAX } from '../../common/limits.ts';
import { zCompactReply } from '../../common/wire/compaction.ts';
import { Op } from '../../common/wire/messages.ts';
import { BLOCK_HELP, blockNumber } from '../cli/block-number.ts';
import { formatBytes } from '../cli/columns.ts';
import { openIo } from '../cli/io.ts';
import { askLeader } from '../cli/leader.ts';
import { withOperatorPeers } from '../cli/operator.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';

export function register(program: Command): void {
  program
    .command('compact')
    .argument('<block>', BLOCK_HELP, blockNumber)
    .summary('takes the deleted pictures out of one block now')
    .description(
      'Takes the pictures out of one block that were deleted longer ago than they may be undeleted, however few they ' +
        'are. Blocks with much of that are compacted without being asked. It needs all copies of the block.',
    )
    .action(async (block: number, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const question = {
        op: Op.COMPACT,
        message: { block },
        schema: zCompactReply,
        deadlineMs: COMPACT_MS_MAX,
      };
      const reply = await withOperatorPeers(homeOf(options), (peers, config) =>
        askLeader(peers, config, question),
      );
      const { generation, freedBytes } = reply;
      openIo(options.json === true).result(
        { block, ...reply },
        freedBytes === 0
          ? `Block ${block} has nothing to give back now (generation ${generation})`
          : `Block ${block} is of generation ${generation} now; ${formatBytes(freedBytes)} came back on each copy`,
      );
    });
}
