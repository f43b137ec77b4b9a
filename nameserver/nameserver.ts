import { TfsError } from '../common/errors.ts';
import { type BlockId, formatHostPort, type HostPort, type ServerId } from '../common/ids.ts';
import { CHECKPOINT_MS } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';
import type { Kv } from '../common/seams/kv.ts';
import type { Net } from '../common/seams/net.ts';
import type { Random } from '../common/seams/random.ts';
import type {
  ClusterMap,
  EndSession,
  Reign,
  RequestCfg,
  RequestCfgReply,
  Status,
} from '../common/wire/control.ts';
import type { Keyring } from '../common/wire/keys.ts';
import { type LocateReply, LocateState, type Location } from '../common/wire/messages.ts';
import { Peers } from '../common/wire/peers.ts';
import { RpcServer } from '../common/wire/rpc-server.ts';
import { BlockMap } from './block-map.ts';
import { Whole } from './block-page.ts';
import { Checkpoint } from './checkpoint.ts';
import { type Commands, commandsOver } from './commands.ts';
import { Configurer } from './configurer.ts';
import { serve } from './handlers.ts';
import { MapVersion } from './map-version.ts';
import { type ConfiguredMember, Members } from './members.ts';
import { NameStore } from './name-store.ts';
import { BlockOpener } from './open-block.ts';
import { OpsSync } from './ops-sync.ts';
import { Registry } from './registry.ts';
import { ReignKeeper } from './reign.ts';
import { SealCoordinator } from './seal.ts';
import { SEAL_TIMES, type SealTimes } from './seal-decision.ts';
import { Series } from './series.ts';
import { ShortCount } from './short-count.ts';
import { Sweep } from './sweep.ts';
import { View } from './view.ts';

export interface NameServerOptions {
  readonly id: number;
  readonly clusterUuid: string;
  /** 1..9 */
  readonly clusterDigit: number;
  readonly replicas: number;
  readonly minWrite: number;
  readonly configured: readonly ConfiguredMember[];
  /** Whether this one commands. One NameServer does; any other only listens and answers. */
  readonly leads: boolean;
  /** Port 0 takes a free one. */
  readonly address: HostPort;
  readonly keyring: Keyring;
  readonly kv: Kv;
  readonly net: Net;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly pid: number;
  readonly version: string;
  /** Instead of those over the network. */
  readonly commands?: Commands;
  /** Shorter in tests. */
  readonly sealTimes?: SealTimes;
}

interface Parts {
  readonly options: NameServerOptions;
  readonly map: BlockMap;
  readonly checkpoint: Checkpoint;
  readonly members: Members;
  readonly reign: ReignKeeper;
  readonly series: Series;
  readonly view: View;
  readonly peers: Peers;
}

const TICK_MS = 500;

/** One NameServer: knows which DataServers hold which block, gives out blocks, and has them sealed. */
export class NameServer {
  readonly map: BlockMap;
  readonly members: Members;
  readonly series: Series;
  readonly view: View;
  readonly checkpoint: Checkpoint;
  readonly registry: Registry;
  readonly opener: BlockOpener;
  readonly sealer: SealCoordinator;
  readonly opsSync: OpsSync;
  readonly configurer: Configurer;
  readonly #options: NameServerOptions;
  readonly #reign: ReignKeeper;
  readonly #peers: Peers;
  readonly #sweep: Sweep;
  readonly #mapVersion: MapVersion;
  readonly #short: ShortCount;
  readonly #startedAtMs: number;
  #server: RpcServer | undefined;
  #timers: Timer[] = [];

  /** Loads the checkpoint, takes a new epoch, listens. @throws TfsError CONFLICT when the port is taken; IO, DISK_FULL */
  static async open(options: NameServerOptions): Promise<NameServer> {
    const { kv, clock, log, id, configured, minWrite, net, random, keyring } = options;
    const store = new NameStore(kv);
    const map = new BlockMap();
    const checkpoint = new Checkpoint({ kv, map, log });
    const members = await Members.open({ store, clock, configured });
    const reign = await ReignKeeper.open(store, { nameserver: id, log });
    const missing = () => members.missing(reign.current);
    const view = await View.open({ store, log, minWrite, missing });
    const series = await Series.open({ store, nameserver: id, clock, log, whoIsMissing: () => view.gap });
    for (const [page, counter] of await checkpoint.load()) series.heard(page, counter);
    const peers = Peers.open({ net, clock, random, keyring, role: 'nameserver', id: String(id) });
    const server = new NameServer({ options, map, checkpoint, members, reign, series, view, peers });
    await server.#listen();
    return server;
  }

  private constructor(parts: Parts) {
    const { options, map, members, reign, series, view, peers } = parts;
    const { clock, random, log, replicas, minWrite, leads, clusterUuid } = options;
    this.#options = options;
    this.map = map;
    this.members = members;
    this.series = series;
    this.view = view;
    this.checkpoint = parts.checkpoint;
    this.#reign = reign;
    this.#peers = peers;
    this.#startedAtMs = clock.now();
    this.#mapVersion = new MapVersion(() => reign.current.epoch);
    const orders = {
      map,
      clock,
      log,
      commands: options.commands ?? commandsOver(peers),
      reign: () => (leads ? reign.current : undefined),
      reachable: (server: ServerId, at: Reign) => members.reachable(server, at),
    };
    this.sealer = new SealCoordinator({ ...orders, times: options.sealTimes ?? SEAL_TIMES });
    this.opsSync = new OpsSync(orders);
    this.configurer = new Configurer({
      ...orders,
      minWrite,
      address: (server) => members.address(server),
      domainOf: (server) => members.domainOf(server),
      unconfirmedFromMs: (server, at) => members.unconfirmedFromMs(server, at),
      seal: (block, why, holders) => this.sealer.enqueue(block, why, holders),
    });
    const requireReign = () => this.#requireReign();
    this.opener = new BlockOpener({ map, members, series, clock, random, replicas, minWrite, requireReign });
    this.registry = new Registry({
      clusterUuid,
      replicas,
      minWrite,
      leads,
      map,
      members,
      reign,
      series,
      view,
      sealer: this.sealer,
      opsSync: this.opsSync,
      log,
      onMapChange: () => this.#mapVersion.bump(),
    });
    this.#sweep = new Sweep({
      unsettled: map.unsettled,
      facts: (block) => map.facts(block),
      isCurrent: (server) =>
        members.reachable(server, reign.current) !== undefined &&
        (members.get(server)?.table.isCurrent ?? false),
      isFullSetPossible: (primary) => this.opener.isFullSetPossible(primary),
      enqueue: (block, why) => this.sealer.enqueue(block, why),
      isQueued: (block) => this.sealer.isQueued(block),
    });
    this.#short = new ShortCount(map, () => members.known.filter((id) => members.stateOf(id) !== 'up'));
  }

  get address(): HostPort {
    return this.#server?.address ?? this.#options.address;
  }

  get reign(): Reign {
    return this.#reign.current;
  }

  get leads(): boolean {
    return this.#options.leads;
  }

  get underReplicated(): number {
    return this.#short.value;
  }

  /** END_SESSION from a primary. @throws TfsError NOT_LEADER */
  endSession({ server, block, reason, failed }: EndSession): void {
    this.#requireReign();
    this.#options.log.debug({ server, block, reason, failed }, 'a write session ended');
    if (this.map.facts(block)?.whole !== Whole.SEALED) this.sealer.enqueue(block, reason, [server]);
  }

  /** REQUEST_CFG from a member. @throws TfsError UNREGISTERED, NOT_LEADER, and those of {@link Configurer.request} */
  requestConfiguration({ server, incarnation, block, failed, renew }: RequestCfg): Promise<RequestCfgReply> {
    this.#requireReign();
    this.members.hear(server, incarnation);
    return this.configurer.request(block, failed, renew);
  }

  /** An unknown block is ABSENT only to a leader that has heard of every block; to anyone else it may exist. */
  locate(blocks: readonly BlockId[]): LocateReply {
    let unknown: Location['state'] | undefined;
    const locations = blocks.map((block): Location => {
      const found = this.map.locate(block);
      if (found !== undefined) return { block, state: LocateState.FOUND, ...found };
      unknown ??= this.leads && this.view.isComplete() ? LocateState.ABSENT : LocateState.DONT_KNOW;
      return { block, state: unknown, opsPrimary: 0, members: [] };
    });
    return { mapVersion: this.#mapVersion.value, locations };
  }

  clusterMap(): ClusterMap {
    const { clusterUuid, clusterDigit, replicas, minWrite } = this.#options;
    const completeView = this.view.isComplete();
    const { total, open, sealed, awaitingSeal, suspect } = this.map.counts;
    return {
      clusterUuid,
      clusterDigit,
      reign: this.reign,
      leader: this.leads,
      completeView,
      safeMode: !(this.leads && completeView),
      mapVersion: this.#mapVersion.value,
      replicas,
      minWrite,
      servers: this.members.infos(),
      blocks: { total, open, sealed, awaitingSeal, underReplicated: this.underReplicated, suspect },
    };
  }

  status(): Status {
    const { id, pid, version } = this.#options;
    const isComplete = this.view.isComplete();
    const up = this.members.infos().filter(({ state }) => state === 'up').length;
    return {
      kind: 'nameserver',
      id: String(id),
      pid,
      address: formatHostPort(this.address),
      role: this.leads ? 'primary' : 'standby',
      state: isComplete ? 'ok' : 'safe mode',
      startedAtMs: this.#startedAtMs,
      version,
      details: {
        epoch: this.reign.epoch,
        completeView: isComplete,
        missing: this.members.missing(this.reign).join(' '),
        serversUp: up,
        serversKnown: this.members.known.length,
        blocks: this.map.counts.total,
        open: this.map.counts.open,
        awaitingSeal: this.map.counts.awaitingSeal,
        underReplicated: this.underReplicated,
        series: this.series.series,
      },
    };
  }

  /** Finishes what is in flight and stores the map; the Kv stays open, it is the caller's. */
  async close(): Promise<void> {
    for (const timer of this.#timers) timer.cancel();
    const closing = [this.sealer.close(), this.opsSync.close(), this.configurer.close()];
    await this.#server?.drain();
    // What they still wait for fails now.
    await this.#peers.close();
    await Promise.all(closing);
    await this.#server?.close();
    await this.checkpoint.flush();
  }

  async #listen(): Promise<void> {
    const { net, clock, random, keyring, address, id, log } = this.#options;
    this.#server = await RpcServer.listen({ net, clock, random, keyring, address, id: String(id), log });
    serve(this.#server, this);
    this.#timers = [
      clock.every(TICK_MS, () => this.#tick()),
      clock.every(CHECKPOINT_MS, () => void this.checkpoint.flush()),
    ];
  }

  #tick(): void {
    const { clock, log } = this.#options;
    if (this.members.noticeStates()) this.#mapVersion.bump();
    this.#short.step();
    if (!this.leads) return;
    this.view.notice().catch((error: unknown) => log.error({ err: error }, 'the view could not be noted'));
    this.#sweep.run(clock.monotonic());
    this.sealer.pump();
    this.opsSync.pump();
    this.configurer.pump();
  }

  #requireReign(): Reign {
    if (this.leads) return this.reign;
    throw new TfsError('NOT_LEADER', `NameServer ${this.#options.id} does not lead: ask the other one`);
  }
}
