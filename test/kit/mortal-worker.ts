// A process that takes one job from a queue, says so, and never ends it: to be killed.
// usage: node --import tsx test/kit/mortal-worker.ts REDIS-URL CLUSTER-UUID SERVER LOCK-MS
import { BullQueues } from '../../common/adapters/bull-queues.ts';
import { serverId } from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';

const [url = '', clusterUuid = '', server = '', lockMs = ''] = process.argv.slice(2);
const queues = BullQueues.open({ url, clusterUuid, log: silentLog, lockMs: Number(lockMs) });
queues.work(serverId(Number(server)), {
  concurrency: 1,
  handle: async ({ id }) => {
    process.stdout.write(`begun ${id}\n`);
    return new Promise<string>(() => undefined);
  },
});
