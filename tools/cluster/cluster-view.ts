import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import type { Config } from '../../common/config.ts';
import { isTfsError, TfsError, toTfsError } from '../../common/errors.ts';
import { formatHostPort } from '../../common/ids.ts';
import { readGatewayRole } from '../../common/secrets.ts';
import {
  type ClusterMap,
  decodeControl,
  encodeControl,
  type ServerFigures,
  zClusterMap,
  zServerFigures,
} from '../../common/wire/control.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { Op } from '../../common/wire/messages.ts';
import { Peers } from '../../common/wire/peers.ts';

const ASK_MS_MAX = 2_000;

/** What one NameServer says. */
export interface NameServerAnswer {
  readonly id: number;
  readonly address: string;
  /** Undefined when it does not answer. */
  readonly map: ClusterMap | undefined;
  readonly whyNot: string | undefined;
}

/** What the NameServers know of the cluster, asked as a gateway asks. */
export interface ClusterView {
  /** What each of them says. */
  nameservers(): Promise<NameServerAnswer[]>;
  /**
   * @returns the leader's map, or a standby's where no leader answers
   * @throws TfsError UNAVAILABLE when no NameServer answers
   */
  map(): Promise<ClusterMap>;
  /** Of every DataServer, as whose map that is knows them; none where that one does not answer, which the others say. */
  figures(): Promise<ServerFigures>;
  close(): Promise<void>;
}

/** @throws TfsError CONFIG when the secrets are missing or readable by others */
export async function openClusterView(config: Config): Promise<ClusterView> {
  const keyring = Keyring.ofExport(await readGatewayRole(config.home));
  const peers = Peers.open({
    net: nodeNet,
    clock: nodeClock,
    random: nodeRandom,
    keyring,
    role: 'gateway',
    id: `tool-${process.pid}`,
  });
  return {
    nameservers: () => askNameServers(peers, config),
    map: () => askClusterMap(peers, config),
    figures: () => askFigures(peers, config).catch(noneOf),
    close: () => peers.close(),
  };
}

/** As {@link ClusterView.map}, over connections of any role. */
export async function askClusterMap(peers: Peers, config: Config): Promise<ClusterMap> {
  const answers = await askNameServers(peers, config);
  const map = mapOf(answers);
  if (map !== undefined) return map;
  const why = answers.find(({ whyNot }) => whyNot !== undefined)?.whyNot ?? 'none is configured';
  throw new TfsError('UNAVAILABLE', `no NameServer answers: ${why}`);
}

/** An error in this program is none of the cluster. */
function noneOf(error: unknown): ServerFigures {
  if (isTfsError(error)) return [];
  throw error;
}

/** @throws TfsError UNAVAILABLE where nobody can be asked; what the one who was said */
async function askFigures(peers: Peers, config: Config): Promise<ServerFigures> {
  const map = await askClusterMap(peers, config);
  // A standby, too, may be the only one that answers.
  const asked = config.nameservers.filter(({ id }) => !map.leader || id === map.reign.nameserver);
  let failure: unknown = new TfsError('UNAVAILABLE', `no NameServer ${map.reign.nameserver} is configured`);
  for (const { host, port } of asked)
    try {
      const ask = peers.call({ host, port }, Op.SERVER_FIGURES, encodeControl({}), undefined, ASK_MS_MAX);
      return decodeControl(zServerFigures, (await ask).payload, 'answer to SERVER_FIGURES');
    } catch (error) {
      failure = error;
    }
  throw failure;
}

/** Asks each of them; never rejects. */
async function askNameServers(peers: Peers, { nameservers }: Config): Promise<NameServerAnswer[]> {
  return Promise.all(
    nameservers.map(async ({ id, host, port }) => {
      const own = { id, address: formatHostPort({ host, port }) };
      try {
        const asked = peers.callControl({ host, port }, Op.CLUSTER_MAP, {}, zClusterMap, [], ASK_MS_MAX);
        return { ...own, map: (await asked).message, whyNot: undefined };
      } catch (error) {
        return { ...own, map: undefined, whyNot: toTfsError(error).message };
      }
    }),
  );
}

/** That of whoever leads (the highest reign, if two say so), else that of any NameServer that answers. */
export function mapOf(answers: readonly Pick<NameServerAnswer, 'map'>[]): ClusterMap | undefined {
  const maps = answers.flatMap(({ map }) => (map === undefined ? [] : [map]));
  const byReign = (a: ClusterMap, b: ClusterMap) =>
    b.reign.epoch - a.reign.epoch || b.reign.nameserver - a.reign.nameserver;
  return maps.filter(({ leader }) => leader).sort(byReign)[0] ?? maps[0];
}

/**
 * Whether an upload can be acknowledged now: a leader, and in enough failure domains a healthy DataServer, one of them
 * with an open block.
 *
 * @returns undefined when it can, else what is missing, in words
 */
export function whyNotWritable(map: ClusterMap): string | undefined {
  if (!map.leader) return 'no NameServer leads yet';
  const healthy = map.servers.filter(
    (server) => server.state === 'up' && server.io.healthy && !server.io.readOnly && !server.drained,
  );
  const domains = new Set(healthy.map((server) => server.domain)).size;
  if (domains < map.minWrite) {
    const sick = map.servers.filter((server) => !healthy.includes(server));
    const reasons = sick.map((server) => `${server.id} ${server.io.reason ?? server.state}`);
    const others = reasons.length > 0 ? ` (not: ${reasons.join(', ')})` : '';
    return `${domains} of ${map.minWrite} healthy failure domains have a DataServer${others}`;
  }
  if (!healthy.some((server) => server.openBlocks > 0)) return whyNoBlock(map);
  return undefined;
}

/** A NameServer without its records may give out block numbers again that somebody absent holds: it waits for all. */
function whyNoBlock({ completeView, servers }: ClusterMap): string {
  const absent = servers.filter((server) => server.state !== 'up').map((server) => server.id);
  if (completeView || absent.length === 0) return 'no block is open yet';
  return (
    `no block is open: the NameServer has no series of block numbers and may draw one only when it has heard of every ` +
    `DataServer (not yet: ${absent.join(', ')})`
  );
}
