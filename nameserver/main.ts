import { BullQueues } from '../common/adapters/bull-queues.ts';
import { LeveldownKv } from '../common/adapters/leveldown-kv.ts';
import { nodeClock } from '../common/adapters/node-clock.ts';
import { nodeNet } from '../common/adapters/node-net.ts';
import { nodeRandom } from '../common/adapters/node-random.ts';
import { RedisLockStore } from '../common/adapters/redis-lock-store.ts';
import { AdminHttp } from '../common/admin-http.ts';
import { type Config, homeFromEnv, loadConfig } from '../common/config.ts';
import { runServer } from '../common/drain.ts';
import { isTfsError, TfsError } from '../common/errors.ts';
import { serverId } from '../common/ids.ts';
import type { Log } from '../common/log.ts';
import { openMetrics } from '../common/metrics.ts';
import { redisAddress } from '../common/redis-address.ts';
import { readClusterKey, readToken } from '../common/secrets.ts';
import { Keyring } from '../common/wire/keys.ts';
import { jobBoard } from './jobs/board.ts';
import type { ConfiguredMember } from './members.ts';
import { observe } from './metrics.ts';
import { NameServer } from './nameserver.ts';

const id = process.env['TFS_NAMESERVER'] ?? '0';

await runServer({
  kind: 'nameserver',
  id,
  open: async (log) => {
    const config = await loadConfig(homeFromEnv(process.env));
    log.setLevel(config.log.level);
    const own = config.nameservers.find((candidate) => String(candidate.id) === id);
    if (own === undefined) {
      const known = config.nameservers.map((candidate) => candidate.id).join(', ');
      throw new TfsError(
        'CONFIG',
        `TFS_NAMESERVER=${id} is not the id of a NameServer in config.json (there: ${known})`,
      );
    }
    const kv = await openStore(own.dir, log);
    const other = config.nameservers.find((candidate) => candidate.id !== own.id);
    const redis = { url: await redisAddress(config, process.env), clusterUuid: config.cluster.uuid };
    const rival = other && {
      address: { host: other.host, port: other.port },
      lock: RedisLockStore.open(redis),
    };
    const queues = BullQueues.open({ ...redis, log });
    const nameserver = await NameServer.open({
      id: own.id,
      clusterUuid: config.cluster.uuid,
      clusterDigit: config.cluster.digit,
      replicas: config.cluster.replicas,
      minWrite: config.cluster.minWrite,
      deadMs: config.cluster.deadMs,
      configured: config.mounts.map(memberOf),
      ...(rival === undefined ? {} : { rival }),
      jobs: {
        queues,
        bytesPerSecond: config.jobs.bytesPerSecond,
        clusterBytesPerSecond: config.jobs.clusterBytesPerSecond,
      },
      compaction: { ...config.compaction, undeleteWindowMs: config.dataserver.undeleteWindowMs },
      address: { host: own.host, port: own.port },
      keyring: Keyring.ofSecret(await readClusterKey(config.home)),
      kv,
      net: nodeNet,
      clock: nodeClock,
      random: nodeRandom,
      log,
      pid: process.pid,
      version: process.env['npm_package_version'] ?? '0.1.0',
    });
    const metrics = openMetrics({ kind: 'nameserver', id });
    observe(metrics, nameserver);
    const admin = await AdminHttp.listen({
      address: { host: own.host, port: own.adminPort },
      setting: `nameservers[id ${id}].adminPort`,
      // Safe mode is a state to work in, not an illness: a probe must not end the process for it.
      health: () => ({ ok: true, status: nameserver.status() }),
      metrics,
      log,
      middleware: await boardOf(config, () => queues.native(nameserver.members.known), log),
    });
    return {
      close: async () => {
        await nameserver.close();
        await queues.close();
        await rival?.lock.close();
        await kv.close();
        await admin.close();
      },
    };
  },
});

/** Everything in the store can be told again by the DataServers, so a broken one is set aside. */
async function openStore(directory: string, log: Log): Promise<LeveldownKv> {
  try {
    const { kv, broken } = await LeveldownKv.openRebuildable({ directory });
    if (broken !== undefined)
      log.error({ reason: broken }, 'the state of this NameServer was damaged: starting from reports');
    return kv;
  } catch (error) {
    if (!isTfsError(error, 'CONFLICT')) throw error;
    throw new TfsError('REFUSED', `another NameServer process runs on ${directory}: stop it first`, {
      cause: error,
    });
  }
}

/** Without a token nobody could be let in: then there is no board. */
async function boardOf(
  config: Config,
  queues: Parameters<typeof jobBoard>[0]['queues'],
  log: Log,
): Promise<ReturnType<typeof jobBoard>> {
  try {
    return jobBoard({ queues, token: (await readToken(config.home)).text });
  } catch (error) {
    if (!isTfsError(error, 'CONFIG')) throw error;
    log.warn({ reason: error.message }, 'no board of jobs: there is no token to protect it with');
    return [];
  }
}

function memberOf(mount: Config['mounts'][number]): ConfiguredMember {
  const { id: number, host, port, adminPort, path, domain } = mount;
  return { id: serverId(number), address: { host, port }, adminPort, mount: path, domain };
}
