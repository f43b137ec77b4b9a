import { isTfsError } from '../../common/errors.ts';
import type { ServerId } from '../../common/ids.ts';
import type { SimCluster, SimDataServer } from './cluster.ts';
import { leaderOf } from './converged.ts';

const LOOK_MS = 1_000;
/**
 * So often a removal is asked for before it is forced. Blocks that were begun on the lost disk and never came to be elsewhere
 * hold nothing that was acknowledged, which no NameServer can know: it goes on refusing, and a person has to say so. That
 * nothing acknowledged was lost by it, the last checks see.
 */
const ASKS_BEFORE_FORCE = 20;

/**
 * The person who looks after the cluster when its machines are well again: a disk that is refused is replaced by an empty
 * one with a new id, and the old id removed; a server whose disk failed is started again.
 */
export class SimOperator {
  /** Removed although blocks may be lost with them. */
  readonly forced = new Set<ServerId>();
  readonly #cluster: SimCluster;
  readonly #onReplaced: (fresh: SimDataServer) => void;
  readonly #removed = new Set<SimDataServer>();
  readonly #asked = new Map<SimDataServer, number>();
  #isBusy = false;

  constructor(cluster: SimCluster, onReplaced: (fresh: SimDataServer) => void) {
    this.#cluster = cluster;
    this.#onReplaced = onReplaced;
  }

  /** Nothing is left to do. */
  get isDone(): boolean {
    const { gone, dataservers } = this.#cluster;
    return (
      !this.#isBusy &&
      gone.every((server) => this.#removed.has(server)) &&
      dataservers.every(({ node }) => node.refused === undefined)
    );
  }

  /** Looks around from now on. */
  start(): void {
    const { scheduler } = this.#cluster;
    const look = () => {
      if (!this.#isBusy) {
        this.#isBusy = true;
        this.#look()
          .catch((error: unknown) => scheduler.fail(error))
          .finally(() => {
            this.#isBusy = false;
          });
      }
      scheduler.at(LOOK_MS, undefined, 'operator', look);
    };
    look();
  }

  async #look(): Promise<void> {
    const cluster = this.#cluster;
    for (const server of [...cluster.dataservers]) {
      const { node, live } = server;
      if (live?.store.readOnly !== undefined) node.kill();
      if (node.refused === undefined) continue;
      cluster.scheduler.note(`operator replaces ${node.name}: ${node.refused.message}`);
      this.#onReplaced(await cluster.replace(server));
    }
    for (const server of cluster.gone) if (!this.#removed.has(server)) await this.#remove(server);
  }

  async #remove(server: SimDataServer): Promise<void> {
    const { nameservers, scheduler, plan } = this.#cluster;
    const leader = leaderOf({ nameservers, servers: [], replicas: plan.replicas });
    if (leader === undefined) return;
    const asked = (this.#asked.get(server) ?? 0) + 1;
    this.#asked.set(server, asked);
    try {
      const force = asked > ASKS_BEFORE_FORCE;
      await leader.removal.remove({ server: server.id, force });
      if (force) this.forced.add(server.id);
      this.#removed.add(server);
    } catch (error) {
      if (!isTfsError(error)) throw error;
      scheduler.note(`operator: ${error.message}`);
    }
  }
}
