import { createHash } from 'node:crypto';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { isTfsError, TfsError, toTfsError } from '../../common/errors.ts';
import type { BlockId, HostPort, ServerId } from '../../common/ids.ts';
import { decodeName } from '../../common/name.ts';
import { readClusterKey } from '../../common/secrets.ts';
import { type CompactReply, zCompactReply } from '../../common/wire/compaction.ts';
import {
  type ClusterMap,
  encodeControl,
  type OpenBlockReply,
  type Reign,
  zClusterMap,
  zOpenBlockReply,
  zVerifyReply,
} from '../../common/wire/control.ts';
import { Keyring, type Role } from '../../common/wire/keys.ts';
import {
  type BlockEntry,
  blockStateName,
  decodeBlockEntries,
  decodeLocateReply,
  decodeReadReply,
  encodeLocate,
  encodeRead,
  LOCATE_BLOCKS_MAX,
  LocateState,
  type Location,
  NameFlag,
  Op,
  READ_TO_END,
} from '../../common/wire/messages.ts';
import { Peers } from '../../common/wire/peers.ts';
import type { ReplicaAnswer } from './history.ts';
import type { ProcessCluster, ProcessName } from './process-cluster.ts';

const ASK_MS_MAX = 2_000;
const READ_MS_MAX = 5_000;
const VERIFY_MS_MAX = 30_000;
const COMPACT_MS_MAX = 60_000;

/** Asks the servers of a cluster directly, past the gateways: who leads, who holds what, what each replica answers. */
export class ClusterProbe {
  readonly #cluster: ProcessCluster;
  readonly #keyring: Keyring;
  readonly #peers = new Map<Role, Peers>();

  static async open(cluster: ProcessCluster): Promise<ClusterProbe> {
    return new ClusterProbe(cluster, Keyring.ofSecret(await readClusterKey(cluster.home)));
  }

  private constructor(cluster: ProcessCluster, keyring: Keyring) {
    this.#cluster = cluster;
    this.#keyring = keyring;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#peers.values()].map((peers) => peers.close()));
  }

  async mapOf(nameserver: ProcessName, askMs = ASK_MS_MAX): Promise<ClusterMap> {
    const { message } = await this.#as('gateway').callControl(
      this.addressOf(nameserver),
      Op.CLUSTER_MAP,
      {},
      zClusterMap,
      undefined,
      askMs,
    );
    return message;
  }

  /** Which NameServer says that it leads, the one with the highest reign if both do; undefined if none does. */
  async leader(askMs = ASK_MS_MAX): Promise<{ name: ProcessName; map: ClusterMap } | undefined> {
    const answers = await Promise.all(
      this.#nameservers.map(async (name) => {
        try {
          return { name, map: await this.mapOf(name, askMs) };
        } catch {
          // Down, stopped or cut off: it does not lead as far as anyone here can see.
          return undefined;
        }
      }),
    );
    return answers
      .filter((answer) => answer?.map.leader)
      .sort((a, b) => compare(b!.map.reign, a!.map.reign))
      .at(0);
  }

  /** @throws Error when no NameServer leads within `withinMs` */
  async untilLed(
    withinMs: number,
    isWanted: (map: ClusterMap, name: ProcessName) => boolean = () => true,
  ): Promise<{ name: ProcessName; map: ClusterMap }> {
    const deadlineAt = performance.now() + withinMs;
    for (;;) {
      const leader = await this.leader(500);
      if (leader !== undefined && isWanted(leader.map, leader.name)) return leader;
      if (performance.now() > deadlineAt)
        throw new Error(
          `no NameServer leads as it should after ${withinMs} ms: ${JSON.stringify(leader ?? 'none')}`,
        );
      await nodeClock.sleep(20);
    }
  }

  /** Where the leader says that these blocks are; those it does not find are left out. */
  async locate(blocks: readonly BlockId[]): Promise<Map<BlockId, Location>> {
    const found = new Map<BlockId, Location>();
    const { name } = await this.untilLed(10_000);
    for (let at = 0; at < blocks.length; at += LOCATE_BLOCKS_MAX) {
      const header = encodeLocate(blocks.slice(at, at + LOCATE_BLOCKS_MAX));
      const reply = await this.#as('gateway').call(this.addressOf(name), Op.LOCATE, header, undefined, 5_000);
      for (const location of decodeLocateReply(reply.header).locations)
        if (location.state === LocateState.FOUND) found.set(location.block, location);
    }
    return found;
  }

  /** What one replica says of a name, deleted or not, with its bytes checked against nothing but their own hash. */
  async readReplica(server: ServerId, name: string): Promise<ReplicaAnswer> {
    const answer = { name, server };
    const key = keyOf(name);
    const header = encodeRead({ ...key, offset: 0, length: READ_TO_END, force: true });
    try {
      const address = this.addressOf(`ds${server}`);
      const reply = await this.#as('gateway').call(address, Op.READ, header, undefined, READ_MS_MAX);
      const facts = decodeReadReply(reply.header);
      if (facts.provisional) return { ...answer, state: 'silent', why: 'not confirmed as current' };
      const isDeleted = (facts.nameFlags & NameFlag.DELETED) !== 0;
      const hidden = (facts.nameFlags & NameFlag.HIDDEN) !== 0;
      const sha1 = createHash('sha1').update(reply.payload).digest('hex');
      return { ...answer, state: isDeleted ? 'deleted' : 'live', hidden, sha1 };
    } catch (error) {
      if (isTfsError(error, 'NOT_FOUND') || isTfsError(error, 'GONE')) return { ...answer, state: 'absent' };
      const { code, message } = toTfsError(error);
      return { ...answer, state: 'silent', why: `${code} ${message}` };
    }
  }

  /**
   * Makes the leader command something: has it give out a block to that DataServer, which is not told. The id stays
   * unused until the leader finds out that nobody holds it.
   */
  async openBlock(nameserver: ProcessName, server: ServerId, map: ClusterMap): Promise<OpenBlockReply> {
    const info = map.servers.find(({ id }) => id === server);
    if (info === undefined) throw new TfsError('UNAVAILABLE', `server ${server} is not in the map`);
    const { message } = await this.#as('dataserver').callControl(
      this.addressOf(nameserver),
      Op.OPEN_BLOCK,
      { server, incarnation: info.incarnation, avoid: [] },
      zOpenBlockReply,
      undefined,
      ASK_MS_MAX,
    );
    return message;
  }

  /** What a DataServer holds, as it reports it. @throws TfsError when it does not answer */
  async entriesOf(server: ServerId): Promise<BlockEntry[]> {
    const address = this.addressOf(`ds${server}`);
    const ask = encodeControl({});
    const reply = await this.#as('operator').call(address, Op.LIST_BLOCKS, ask, undefined, READ_MS_MAX);
    return decodeBlockEntries(reply.payload);
  }

  /** All of all DataServers, or of these. @throws TfsError when one does not answer */
  async replicas(
    servers: readonly number[] = this.#cluster.config.mounts.map(({ id }) => id),
  ): Promise<{ server: number; entry: BlockEntry }[]> {
    const all = await Promise.all(
      servers.map(async (id) =>
        (await this.entriesOf(id as ServerId)).map((entry) => ({ server: id, entry })),
      ),
    );
    return all.flat();
  }

  /** How each DataServer holds these blocks, a line for each replica: for people who look for what went wrong. */
  async describeBlocks(blocks: ReadonlySet<BlockId>): Promise<string[]> {
    const lines: string[] = [];
    for (const { id } of this.#cluster.config.mounts) {
      try {
        for (const entry of await this.entriesOf(id as ServerId))
          if (blocks.has(entry.block)) lines.push(`server ${id}: ${describeEntry(entry)}`);
      } catch (error) {
        lines.push(`server ${id}: ${toTfsError(error).message}`);
      }
    }
    return lines;
  }

  /** Has a DataServer read all of its replica. @returns what is wrong with it, a line each */
  async problemsOf(server: ServerId, block: BlockId): Promise<string[]> {
    const at = `server ${server}, block ${block}`;
    try {
      const { message } = await this.#as('operator').callControl(
        this.addressOf(`ds${server}`),
        Op.VERIFY,
        { block },
        zVerifyReply,
        undefined,
        VERIFY_MS_MAX,
      );
      const entry = (await this.entriesOf(server)).find((one) => one.block === block);
      const isBad = entry === undefined || entry.flags !== 0;
      return [
        ...message.problems.map((problem) => `${at}: ${problem}`),
        ...(isBad ? [`${at}: ${entry === undefined ? 'is not there' : describeEntry(entry)}`] : []),
      ];
    } catch (error) {
      return [`${at}: ${toTfsError(error).message}`];
    }
  }

  /** Has the leader compact a block now, as `tfs compact` does. @throws TfsError where it is not done */
  async compact(block: BlockId): Promise<CompactReply> {
    const { name } = await this.untilLed(10_000);
    const { message } = await this.#as('operator').callControl(
      this.addressOf(name),
      Op.COMPACT,
      { block },
      zCompactReply,
      undefined,
      COMPACT_MS_MAX,
    );
    return message;
  }

  /** As some server or tool of the cluster; its answer's header is JSON. */
  async ask(role: Role, to: ProcessName, op: number, message: object): Promise<Record<string, unknown>> {
    const reply = await this.#as(role).call(
      this.addressOf(to),
      op,
      encodeControl(message),
      undefined,
      ASK_MS_MAX,
    );
    return JSON.parse(reply.header.toString('utf8') || '{}') as Record<string, unknown>;
  }

  addressOf(name: ProcessName): HostPort {
    const { config } = this.#cluster;
    const id = Number(name.slice(2));
    const own = (name.startsWith('ns') ? config.nameservers : config.mounts).find((entry) => entry.id === id);
    if (own === undefined) throw new Error(`${name} does not speak the wire protocol`);
    return { host: own.host, port: own.port };
  }

  get #nameservers(): ProcessName[] {
    return this.#cluster.config.nameservers.map(({ id }): ProcessName => `ns${id}`);
  }

  #as(role: Role): Peers {
    let peers = this.#peers.get(role);
    if (peers === undefined) {
      peers = Peers.open({
        net: nodeNet,
        clock: nodeClock,
        random: nodeRandom,
        keyring: this.#keyring,
        role,
        id: 'probe',
      });
      this.#peers.set(role, peers);
    }
    return peers;
  }
}

export function keyOf(name: string) {
  const key = decodeName(name);
  if (key === undefined) throw new Error(`${name} is not a name`);
  return key;
}

export const describeEntry = ({
  block,
  generation,
  state,
  flags,
  length,
  seq,
  version,
  opsPrimary,
  members,
}: BlockEntry): string =>
  `block ${block} ${blockStateName(state)}${flags === 0 ? '' : ` flags ${flags}`} generation ${generation} ` +
  `length ${length} seq ${seq} ` +
  `version (${version.epoch}, ${version.n}) of ${opsPrimary}, members ${members.join(' ')}`;

const compare = (a: Reign, b: Reign): number => a.epoch - b.epoch || a.nameserver - b.nameserver;
