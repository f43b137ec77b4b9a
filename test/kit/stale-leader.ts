import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { Peers } from '../../common/wire/peers.ts';
import { type Commands, commandsOver } from '../../nameserver/commands.ts';
import { LOCAL_KEYRING } from './local-cluster.ts';
import type { TestContext } from './suite.ts';

/** Commands as a NameServer of a local cluster would give them, for reigns it would not. */
export function staleLeader(t: TestContext): Commands {
  const seams = { net: nodeNet, clock: nodeClock, random: nodeRandom };
  const peers = Peers.open({ ...seams, keyring: LOCAL_KEYRING, role: 'nameserver', id: '0' });
  t.defer(() => peers.close());
  return commandsOver(peers);
}
