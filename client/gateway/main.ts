import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { homeFromEnv, loadConfig } from '../../common/config.ts';
import { runServer } from '../../common/drain.ts';
import { READY_WAIT_MS_MAX } from '../../common/limits.ts';
import { readGatewayRole, readToken } from '../../common/secrets.ts';
import { connectClient } from '../connect.ts';
import { openAdminWhenFree } from './admin.ts';
import { Gateway } from './gateway.ts';
import { GatewayMetrics } from './gateway-metrics.ts';

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
    const gateway = await Gateway.open({
      address: { host: settings.host, port: settings.port },
      id,
      version: process.env['npm_package_version'] ?? '0.1.0',
      client,
      tokens: [await readToken(config.home)],
      clock: nodeClock,
      log,
      metrics,
      pictureBytesMax: settings.maxPictureBytes,
      anyType: settings.anyType,
      hotBytesMax: settings.hotBytes,
      ...(settings.publicUrl === undefined ? {} : { publicUrl: settings.publicUrl }),
    });
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
        await admin.close();
        await disconnect();
        metrics.close();
      },
    };
  },
});
