import type { TfsClient } from '../../client/client.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import type { Config } from '../../common/config.ts';
import { CLEAR_TRACES_MS_MAX, PREPARE_GENERATION_MS_MAX, VERIFY_MS_MAX } from '../../common/limits.ts';
import { decodeControl, encodeControl } from '../../common/wire/control.ts';
import { zClearTracesReply, zEraseRecordsReply, zFoundContent } from '../../common/wire/erase.ts';
import { Op } from '../../common/wire/messages.ts';
import type { Peers } from '../../common/wire/peers.ts';
import { askLeader } from '../cli/leader.ts';
import { askClusterMap } from '../cluster/cluster-view.ts';
import { type FindPorts, findEverywhere } from './find.ts';
import type { StepProgress } from './progress.ts';
import type { ErasePorts } from './run.ts';

/** Looking for a content, over the network: each server says what it has. */
export function findPorts(peers: Peers, config: Config, progress: StepProgress): FindPorts {
  return {
    servers: async () => (await askClusterMap(peers, config)).servers,
    find: async ({ address }, sha1, from) => {
      // A block that was not closed is read through.
      const message = encodeControl({ sha1, from });
      const { payload } = await peers.call(address, Op.FIND_CONTENT, message, undefined, VERIFY_MS_MAX);
      return decodeControl(zFoundContent, payload, 'answer to FIND_CONTENT');
    },
    onLooked: (looked, blocks) => progress.at(looked, blocks, 'blocks looked at'),
  };
}

/** @param client deletes names as a gateway does */
export function erasePorts(
  peers: Peers,
  config: Config,
  client: TfsClient,
  progress: StepProgress,
): ErasePorts {
  return {
    find: (sha1) => findEverywhere(findPorts(peers, config, progress), sha1),
    remove: (key) => client.remove(key),
    eraseRecords: (message) =>
      askLeader(peers, config, {
        op: Op.ERASE_RECORDS,
        message,
        schema: zEraseRecordsReply,
        // Every copy reads and writes the whole block.
        deadlineMs: 2 * PREPARE_GENERATION_MS_MAX,
      }),
    clearTraces: (message) =>
      askLeader(peers, config, {
        op: Op.CLEAR_ALL_TRACES,
        message,
        schema: zClearTracesReply,
        deadlineMs: 2 * CLEAR_TRACES_MS_MAX,
      }),
    clock: nodeClock,
    onStep: (done, steps, what) => progress.at(done, steps, what),
  };
}
