import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { loadConfig } from '../../common/config.ts';
import { readClusterKey } from '../../common/secrets.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { Peers } from '../../common/wire/peers.ts';
import { askClusterMap } from '../cluster/cluster-view.ts';
import { type Operator, operatorOver } from '../verify/operator.ts';

/**
 * Runs `use` with what an operator may ask of the servers themselves; needs the cluster's own key.
 *
 * @throws TfsError CONFIG when it is not in the home or readable by others
 */
export async function withOperator<T>(home: string, use: (operator: Operator) => Promise<T>): Promise<T> {
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
    return await use(operatorOver(peers, () => askClusterMap(peers, config)));
  } finally {
    await peers.close();
  }
}
