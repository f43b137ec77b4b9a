import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { type Config, loadConfig } from '../../common/config.ts';
import { readClusterKey } from '../../common/secrets.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { Peers } from '../../common/wire/peers.ts';
import { askClusterMap } from '../cluster/cluster-view.ts';
import { type Operator, operatorOver } from '../verify/operator.ts';

/**
 * Runs `use` with connections as an operator; needs the cluster's own key.
 *
 * @throws TfsError CONFIG when it is not in the home or readable by others
 */
export async function withOperatorPeers<T>(
  home: string,
  use: (peers: Peers, config: Config) => Promise<T>,
): Promise<T> {
  const config = await loadConfig(home);
  const keyring = Keyring.ofExport(
    Keyring.ofSecret(await readClusterKey(config.home)).exportRole('operator'),
  );
  const peers = Peers.open({
    net: nodeNet,
    clock: nodeClock,
    random: nodeRandom,
    keyring,
    role: 'operator',
    id: `tfs-${process.pid}`,
  });
  try {
    return await use(peers, config);
  } finally {
    await peers.close();
  }
}

/** Runs `use` with what an operator may ask of the servers. @throws TfsError as {@link withOperatorPeers} */
export function withOperator<T>(home: string, use: (operator: Operator) => Promise<T>): Promise<T> {
  return withOperatorPeers(home, (peers, config) =>
    use(operatorOver(peers, () => askClusterMap(peers, config))),
  );
}
