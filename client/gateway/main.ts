import { availableParallelism } from 'node:os';
import { CounterRedis } from '../../common/adapters/counter-redis.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { homeFromEnv, loadConfig } from '../../common/config.ts';
import { runServer } from '../../common/drain.ts';
import { ensureImageKeys } from '../../common/image-keys.ts';
import { READY_WAIT_MS_MAX } from '../../common/limits.ts';
import { redisAddress } from '../../common/redis-address.ts';
import { readGatewayRole } from '../../common/secrets.ts';
import { readTokens } from '../../common/tokens-file.ts';
import { connectClient } from '../connect.ts';
import { openAdminWhenFree } from './admin.ts';
import { Gateway } from './gateway.ts';
import { GatewayMetrics } from './gateway-metrics.ts';
import { socketDirectoryOf } from './images/open-images.ts';
import { openPurger } from './purge/open-purger.ts';
import { UploadLimits } from './upload-limits.ts';

/** PM2 counts the workers of an app. */
const id = process.env['NODE_APP_INSTANCE'] ?? '0';
/** In cluster mode a worker that exits at once strands connections which its master has accepted for it. */
const CLUSTER_LINGER_MS = 300;

await runServer({
  kind: 'gateway',
  id,
  lingerMs: CLUSTER_LINGER_MS,
  open: async (log) => {
    const config = await loadConfig(homeFromEnv(process.env));
    log.setLevel(config.log.level);
    const { gateway: settings } = config;
    const metrics = GatewayMetrics.open({ id });
    const { client, close: disconnect } = await connectClient({
      config,
      role: await readGatewayRole(config.home),
      id: `gateway-${id}`,
      net: nodeNet,
      clock: nodeClock,
      random: nodeRandom,
      log,
      reads: settings.reads,
      events: {
        corrupt: (server, block) => {
          metrics.corrupt(server);
          log.error({ server, block }, 'a replica answered with wrong bytes; another one was asked');
        },
        retry: () => metrics.retried(),
        hedge: () => metrics.hedged(),
      },
    });
    const seams = { clock: nodeClock, log, metrics: metrics.exposed };
    const purges = await openPurger({ ...seams, config, env: process.env, client });
    const tokens = await readTokens(config);
    const isCounted = tokens.some(({ policy }) => policy.rate !== undefined || policy.quota !== undefined);
    const counters = isCounted ? CounterRedis.open(await redisAddress(config, process.env)) : undefined;
    const gateway = await Gateway.open({
      address: { host: settings.host, port: settings.port },
      id,
      version: process.env['npm_package_version'] ?? '0.1.0',
      client,
      tokens,
      limits: new UploadLimits({
        clock: nodeClock,
        clusterUuid: config.cluster.uuid,
        ...(counters === undefined ? {} : { redis: counters }),
      }),
      clock: nodeClock,
      log,
      metrics,
      pictureBytesMax: settings.maxPictureBytes,
      anyType: settings.anyType,
      hotBytesMax: settings.hotBytes,
      ...(config.tfsRest.enabled ? { tfsRest: config.tfsRest } : {}),
      images: {
        config: config.images,
        keys: await ensureImageKeys(config.home),
        socketDirectory: socketDirectoryOf(config.home),
        index: Number(id),
        count: settings.workers,
        decoders: Math.ceil((config.images.decoders ?? availableParallelism()) / settings.workers),
      },
      ...(purges === undefined ? {} : { purger: purges.purger }),
      ...(settings.publicUrl === undefined ? {} : { publicUrl: settings.publicUrl }),
    });
    gateway.warm();
    const admin = openAdminWhenFree({
      address: { host: '127.0.0.1', port: settings.adminPort + Number(id) },
      setting: 'gateway.adminPort',
      health: () => {
        const { ok, ...status } = gateway.health();
        return { ok, status };
      },
      metrics: metrics.exposed,
      log,
    });
    // Without a NameServer it serves all the same: 503, until there is one.
    if (!(await client.ready(READY_WAIT_MS_MAX))) log.warn('no NameServer has answered yet');
    return {
      close: async () => {
        await gateway.close();
        await purges?.close();
        await admin.close();
        counters?.disconnect();
        await disconnect();
        metrics.close();
      },
    };
  },
});
