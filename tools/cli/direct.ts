import { TfsClient } from '../../client/client.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { loadConfig } from '../../common/config.ts';
import { silentLog } from '../../common/log.ts';
import { readGatewayRole } from '../../common/secrets.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { Peers } from '../../common/wire/peers.ts';

/** Runs `use` with a client that talks to the servers themselves, as a gateway does: shows what HTTP would hide. */
export async function withDirectClient<T>(home: string, use: (client: TfsClient) => Promise<T>): Promise<T> {
  const config = await loadConfig(home);
  const keyring = Keyring.ofExport(await readGatewayRole(home));
  const seams = { net: nodeNet, clock: nodeClock, random: nodeRandom };
  const peers = Peers.open({ ...seams, keyring, role: 'gateway', id: `tfs-${process.pid}` });
  const client = await TfsClient.open({
    ...seams,
    peers,
    nameservers: config.nameservers.map(({ host, port }) => ({ host, port })),
    rendezvousKey: keyring.rendezvousKey,
    clusterDigit: config.cluster.digit,
    clusterUuid: config.cluster.uuid,
    log: silentLog,
  });
  try {
    return await use(client);
  } finally {
    await client.close();
    await peers.close();
  }
}
