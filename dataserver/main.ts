import { join } from 'node:path';
import { BullQueues } from '../common/adapters/bull-queues.ts';
import { LeveldownKv } from '../common/adapters/leveldown-kv.ts';
import { nodeClock } from '../common/adapters/node-clock.ts';
import { nodeNet } from '../common/adapters/node-net.ts';
import { nodeRandom } from '../common/adapters/node-random.ts';
import { AdminHttp } from '../common/admin-http.ts';
import { homeFromEnv, loadConfig } from '../common/config.ts';
import { runServer } from '../common/drain.ts';
import { TfsError } from '../common/errors.ts';
import { serverId } from '../common/ids.ts';
import { EXIT_REFUSED, MEMBER_ACK_MS_MAX } from '../common/limits.ts';
import { openMetrics } from '../common/metrics.ts';
import { redisAddress } from '../common/redis-address.ts';
import { readClusterKey } from '../common/secrets.ts';
import { Keyring } from '../common/wire/keys.ts';
import { DataServer } from './dataserver.ts';
import { observe } from './metrics.ts';
import { openMount } from './mount.ts';

const id = process.env['TFS_SERVER'] ?? '';
const LOG_FLUSH_MS = 100;

await runServer({
  kind: 'dataserver',
  id,
  open: async (log) => {
    const config = await loadConfig(homeFromEnv(process.env));
    log.setLevel(config.log.level);
    const mount = config.mounts.find((candidate) => String(candidate.id) === id);
    if (mount === undefined) {
      const known = config.mounts.map((candidate) => candidate.id).join(', ');
      throw new TfsError(
        'CONFIG',
        `TFS_SERVER=${id} is not the id of a mount in config.json (there: ${known})`,
      );
    }
    const server = serverId(mount.id);
    const { disk } = await openMount({ path: mount.path, clusterUuid: config.cluster.uuid, server });
    // Its LOCK makes sure that one process serves the mount; the kernel frees it however that process ends.
    const { kv, broken } = await LeveldownKv.openRebuildable({ directory: join(mount.path, 'kv') }).catch(
      (error: unknown) => {
        throw inUse(error, mount.path);
      },
    );
    if (broken !== undefined)
      log.warn({ reason: broken }, 'the SHA-1 index was damaged; it is being rebuilt from the blocks');
    const queues = BullQueues.open({
      url: await redisAddress(config, process.env),
      clusterUuid: config.cluster.uuid,
      log,
    });
    const dataServer = await DataServer.open({
      ...config.dataserver,
      clusterUuid: config.cluster.uuid,
      server,
      address: { host: mount.host, port: mount.port },
      adminPort: mount.adminPort,
      nameservers: config.nameservers.map(({ id: nameserver, host, port }) => ({
        id: nameserver,
        host,
        port,
      })),
      disk,
      mountPath: mount.path,
      kv,
      net: nodeNet,
      clock: nodeClock,
      random: nodeRandom,
      keyring: Keyring.ofSecret(await readClusterKey(config.home)),
      log,
      domain: mount.domain,
      capacityBytes: mount.capacityBytes,
      memberAckMs: MEMBER_ACK_MS_MAX,
      minWrite: config.cluster.minWrite,
      jobs: { queues, concurrency: config.jobs.concurrency },
      pid: process.pid,
      version: process.env['npm_package_version'] ?? '0.1.0',
      onRefused: (error) => {
        log.error({ err: error }, 'refused by the NameServer');
        setTimeout(() => process.exit(EXIT_REFUSED), LOG_FLUSH_MS);
      },
      onMountTaken: (error) => {
        log.error({ err: error }, 'the mount is served by another process');
        setTimeout(() => process.exit(1), LOG_FLUSH_MS);
      },
    });
    const metrics = openMetrics({ kind: 'dataserver', id });
    observe(metrics, dataServer);
    const admin = await AdminHttp.listen({
      address: { host: mount.host, port: mount.adminPort },
      setting: `mounts[id ${id}].adminPort`,
      health: () => {
        const status = dataServer.status();
        return { ok: status.state === 'ok', status };
      },
      metrics,
      log,
    });
    return {
      close: async () => {
        await dataServer.close();
        await queues.close();
        await admin.close();
      },
    };
  },
});

function inUse(error: unknown, path: string): unknown {
  if (error instanceof TfsError && error.code === 'CONFLICT') {
    return new TfsError(
      'REFUSED',
      `${path} is served by another process already: two on one disk would destroy it`,
      { cause: error },
    );
  }
  return error;
}
