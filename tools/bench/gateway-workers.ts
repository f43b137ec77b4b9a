// Several workers of one gateway on one port, as PM2 runs them: they share the listening socket, and the kernel gives each
// connection to one of them (decision 006).
// usage: gateway-workers COUNT
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { extname, join } from 'node:path';

const count = Number(process.argv[2]);
cluster.schedulingPolicy = cluster.SCHED_NONE;
cluster.setupPrimary({
  exec: join(import.meta.dirname, `../../client/gateway/main${extname(import.meta.filename)}`),
  args: [],
});
const workers: Worker[] = [];
process.once('SIGTERM', () => void stop());
cluster.on('exit', (worker, code, signal) => {
  if (worker.exitedAfterDisconnect) return;
  process.stderr.write(`gateway worker ${worker.id - 1} ended: ${code ?? signal}\n`);
  process.exit(1);
});
for (let i = 0; i < count; i++) workers.push(cluster.fork({ NODE_APP_INSTANCE: String(i) }));
await Promise.all(workers.map((worker) => once(worker, 'message')));
process.send?.({ pids: workers.map((worker) => worker.process.pid) });

/** Each of them drains. */
async function stop(): Promise<void> {
  const ended = workers.map(async (worker) => {
    if (worker.isDead()) return;
    worker.exitedAfterDisconnect = true;
    worker.process.kill('SIGTERM');
    await once(worker, 'exit');
  });
  await Promise.all(ended);
  process.exit(0);
}
