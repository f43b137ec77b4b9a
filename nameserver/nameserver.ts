import type { BlockId, HostPort, ServerId } from '../common/ids.ts';
import { CHECKPOINT_MS, DEAD_MS } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';
import type { JobQueues } from '../common/seams/job-queue.ts';
import type { Kv } from '../common/seams/kv.ts';
import type { LockStore } from '../common/seams/lock-store.ts';
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
import type { LocateReply } from '../common/wire/messages.ts';
import { Peers } from '../common/wire/peers.ts';
import { RpcServer } from '../common/wire/rpc-server.ts';
import { AbsentScan } from './absent-scan.ts';
import { AgreedTime } from './agreed-time.ts';
import { blockFigures } from './block-figures.ts';
import { BlockMap } from './block-map.ts';
import { Whole } from './block-page.ts';
import { Checkpoint } from './checkpoint.ts';
import { type Commands, commandsOver, noticingRefusals } from './commands.ts';
import { Compaction, type CompactionSettings } from './compaction.ts';
import { compactionCommandsOver } from './compaction-commands.ts';
import { Configurer } from './configurer.ts';
import { blockDigestsOver, DigestCheck } from './digest-check.ts';
import { Drains } from './drains.ts';
import { dropCommandsOver } from './drop-commands.ts';
import { Dropper } from './dropper.ts';
import { EmptyScan } from './empty-scan.ts';
import { Erasure } from './erasure.ts';
import { ErasureList } from './erasure-list.ts';
import { type NameServerFaults, NO_FAULTS } from './faults.ts';
import { serve } from './handlers.ts';
import { Jobs } from './jobs/jobs.ts';
import { Pauses } from './jobs/pauses.ts';
import type { Rates } from './jobs/rates.ts';
import { Leadership } from './leadership.ts';
import { Locator } from './locator.ts';
import { MapVersion } from './map-version.ts';
import { type ConfiguredMember, Members } from './members.ts';
import { NameStore } from './name-store.ts';
import { BlockOpener } from './open-block.ts';
import { OpsSync } from './ops-sync.ts';
import { otherOver, tellDrainedOver, tellRemovedOver } from './other-nameserver.ts';
import { Overview } from './overview.ts';
import { PairHealth } from './pair-health.ts';
import { whyLost } from './planner/sight-of.ts';
import { askPromiseOver, PromiseRounds } from './promise-rounds.ts';
import { Registry } from './registry.ts';
import { ReignKeeper } from './reign.ts';
import { Removal } from './removal.ts';
import { Repairer } from './repair.ts';
import { repairCommandsOver } from './repair-commands.ts';
import { SealCoordinator } from './seal.ts';
import { SEAL_TIMES, type SealTimes } from './seal-decision.ts';
import { Series } from './series.ts';
import { ShortCount } from './short-count.ts';
import { Sweep } from './sweep.ts';
import { traceCommandsOver } from './trace-commands.ts';
import { View } from './view.ts';

export interface NameServerOptions {
  readonly id: number;
  readonly clusterUuid: string;
  /** 1..9 */
  readonly clusterDigit: number;
  readonly replicas: number;
  readonly minWrite: number;
  readonly configured: readonly ConfiguredMember[];
  /**
   * The other NameServer, and the lock that tells which of the two tries to lead. Without it this one leads always. The
   * lock stays open, it is the caller's.
   */
  readonly rival?: { readonly address: HostPort; readonly lock: LockStore };
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
  /** Default {@link DEAD_MS}. */
  readonly deadMs?: number;
  /** Where work goes that can wait, and how fast it may be done; without it none is. The queues are the caller's. */
  readonly jobs?: Rates & { readonly queues: JobQueues };
  readonly compaction?: CompactionSettings;
  readonly faults?: NameServerFaults;
}

interface Parts {
  readonly options: NameServerOptions;
  readonly map: BlockMap;
  readonly checkpoint: Checkpoint;
  readonly members: Members;
  readonly keeper: ReignKeeper;
  readonly series: Series;
  readonly view: View;
  readonly peers: Peers;
  readonly leadership: Leadership;
  readonly pauses: Pauses;
  readonly mapVersion: MapVersion;
  readonly drains: Drains;
}

const TICK_MS = 500;

/**
 * One NameServer: knows which DataServers hold which block; while it leads, gives out blocks and has them sealed. One
 * that does not lead hears the same reports, so that it can lead at any moment.
 */
export class NameServer {
  readonly map: BlockMap;
  readonly members: Members;
  readonly series: Series;
  readonly view: View;
  readonly checkpoint: Checkpoint;
  readonly registry: Registry;
  readonly removal: Removal;
  readonly drains: Drains;
  readonly opener: BlockOpener;
  readonly pairs: PairHealth;
  readonly sealer: SealCoordinator;
  readonly opsSync: OpsSync;
  readonly configurer: Configurer;
  readonly repairer: Repairer;
  readonly digests: DigestCheck;
  readonly dropper: Dropper;
  readonly jobs: Jobs;
  readonly compaction: Compaction;
  readonly erasure: Erasure;
  readonly leadership: Leadership;
  readonly rounds: PromiseRounds;
  readonly #options: NameServerOptions;
  readonly #peers: Peers;
  readonly #sweep: Sweep;
  readonly #mapVersion: MapVersion;
  readonly #short: ShortCount;
  readonly #absent: AbsentScan;
  readonly #empty: EmptyScan;
  readonly #locator: Locator;
  readonly #overview: Overview;
  #server: RpcServer | undefined;
  #timers: Timer[] = [];

  /**
   * Loads the checkpoint and listens. The only NameServer leads then; one of two may lead a little later.
   *
   * @throws TfsError CONFLICT when the port is taken; IO, DISK_FULL
   */
  static async open(options: NameServerOptions): Promise<NameServer> {
    const {
      kv,
      clock,
      log,
      id,
      configured,
      minWrite,
      net,
      random,
      keyring,
      rival,
      faults = NO_FAULTS,
    } = options;
    const store = new NameStore(kv);
    const map = new BlockMap({ minWrite });
    const checkpoint = new Checkpoint({ kv, map, log });
    const members = await Members.open({ store, clock, random, configured, faults });
    const keeper = await ReignKeeper.open(store, { nameserver: id, log });
    const peers = Peers.open({ net, clock, random, keyring, role: 'nameserver', id: String(id) });
    const leadership: Leadership = new Leadership({
      nameserver: id,
      keeper,
      clock,
      log,
      rival: rival && {
        lock: rival.lock,
        other: otherOver(peers, clock, rival.address),
        owner: `${id} ${random.bytes(8).toString('hex')}`,
      },
      // Promises do not count: they follow whoever begins to lead.
      isAble: () => view.isCompleteWithout(members.missing(undefined).length),
    });
    const missing = () => members.missing(leadership.reign);
    const view = await View.open({ store, log, minWrite, missing });
    const series = await Series.open({
      store,
      nameserver: id,
      clock,
      log,
      whoIsMissing: () => view.gap,
      faults,
    });
    for (const [page, counter] of await checkpoint.load()) series.heard(page, counter);
    // The checkpoint may be older than the removal.
    for (const server of members.removed) map.lose(server);
    const pauses = await Pauses.open(store, log);
    const mapVersion = new MapVersion(() => keeper.highest.epoch);
    const drains = await Drains.open({
      store,
      members,
      clock,
      log,
      replicas: options.replicas,
      reign: () => leadership.reign,
      tellOther: rival && tellDrainedOver(peers, rival.address),
      onMapChange: () => mapVersion.bump(),
    });
    members.isDrained = (server) => drains.has(server);
    const parts = {
      options,
      map,
      checkpoint,
      members,
      keeper,
      series,
      view,
      peers,
      leadership,
      mapVersion,
      drains,
      pauses,
    };
    const server = new NameServer(parts);
    // Every DataServer is told at once, so that commands need not wait for their heartbeats.
    await leadership.start(() => void server.rounds.confirm());
    await server.#listen();
    return server;
  }

  private constructor(parts: Parts) {
    const { options, map, members, leadership, series, view, peers } = parts;
    const { clock, random, log, replicas, minWrite, clusterUuid, faults = NO_FAULTS } = options;
    this.#options = options;
    this.map = map;
    this.members = members;
    this.series = series;
    this.view = view;
    this.checkpoint = parts.checkpoint;
    this.leadership = leadership;
    this.#peers = peers;
    this.#mapVersion = parts.mapVersion;
    this.drains = parts.drains;
    const reign = () => leadership.reign;
    const orders = {
      map,
      clock,
      log,
      commands: noticingRefusals(options.commands ?? commandsOver(peers), (error) =>
        leadership.refused(error),
      ),
      reign,
      reachable: (server: ServerId, at: Reign) => members.reachable(server, at),
    };
    const { deadMs = DEAD_MS, sealTimes = { ...SEAL_TIMES, deadMs } } = options;
    this.sealer = new SealCoordinator({
      ...orders,
      isRemoved: (server) => members.isRemoved(server),
      onUnread: (block, server) => this.repairer.unread(block, server),
      times: sealTimes,
      faults,
    });
    this.opsSync = new OpsSync({
      ...orders,
      renew: (block) => this.configurer.request(block, [], { renew: true }),
    });
    this.configurer = new Configurer({
      ...orders,
      minWrite: faults.has('configure-below-min-write') ? 1 : minWrite,
      address: (server) => members.address(server),
      domainOf: (server) => members.domainOf(server),
      domainsInAll: () => members.domains,
      isDrained: (server) => members.isDrained(server),
      canWrite: (server) => members.canWrite(server),
      unconfirmedFromMs: (server, at) => members.unconfirmedFromMs(server, at, minWrite),
      seal: (block, why, holders) => this.sealer.enqueue(block, why, holders),
    });
    this.#absent = new AbsentScan(map, () => members.known.filter((server) => this.#isCurrent(server)));
    const repairs = repairCommandsOver(peers, (error) => leadership.refused(error));
    this.repairer = new Repairer({
      ...orders,
      commands: repairs,
      absent: this.#absent.found,
      isCurrent: (server) => this.#isCurrent(server),
      canWrite: (server) => members.canWrite(server),
      seal: (block, why) => this.sealer.enqueue(block, why),
    });
    this.digests = new DigestCheck({
      ...orders,
      ask: blockDigestsOver(peers),
      isCurrent: (server) => this.#isCurrent(server),
      seal: (block, why) => this.sealer.enqueue(block, why),
      mergeOps: (block) => this.configurer.request(block, [], { renew: true }),
    });
    this.#empty = new EmptyScan(map);
    this.dropper = new Dropper({
      ...orders,
      commands: dropCommandsOver(peers, (error) => leadership.refused(error)),
      configurer: this.configurer,
      empty: this.#empty.found,
      missing: () => members.missing(leadership.reign),
      isViewComplete: () => view.isComplete(),
      isCurrent: (server) =>
        leadership.reign !== undefined &&
        (members.isHeld(server, leadership.reign) ||
          (faults.has('drop-counts-unpromised') && members.get(server)?.table.isCurrent === true)),
      canWrite: (server) => members.canWrite(server),
      isDrained: (server) => members.isDrained(server),
      domainOf: (server) => members.domainOf(server),
      usedPercent: (server) => members.usedPercent(server),
    });
    const time = new AgreedTime({ clock, host: options.address.host, votes: () => members.clockVotes() });
    this.compaction = new Compaction({
      ...orders,
      time,
      ...options.compaction,
      commands: compactionCommandsOver(peers, (error) => leadership.refused(error)),
      isPaused: () => parts.pauses.isPaused('compact'),
      isQueued: () => this.jobs.isQueued,
      isViewComplete: () => view.isComplete(),
      isCurrent: (server) => this.#isCurrent(server),
      canWrite: (server) => members.canWrite(server),
    });
    const erasures = new ErasureList(clock);
    this.jobs = new Jobs({
      ...orders,
      ...options.jobs,
      pauses: parts.pauses,
      commands: repairs,
      members,
      faults,
      isCurrent: (server) => this.#isCurrent(server),
      deadMs: options.deadMs ?? DEAD_MS,
      garbage: this.compaction,
      erasures,
      repairer: this.repairer,
      isViewComplete: () => view.isComplete(),
      seal: (block, why) => this.sealer.enqueue(block, why),
    });
    this.erasure = new Erasure({
      ...orders,
      members,
      compaction: this.compaction,
      list: erasures,
      isLed: () => leadership.reign !== undefined,
      isQueued: () => this.jobs.isQueued,
      isPaused: () => parts.pauses.isPaused('purge'),
      commands: traceCommandsOver(peers, (error) => leadership.refused(error)),
      requireReign: () => leadership.require(),
      seal: (block, why) => this.sealer.enqueue(block, why),
    });
    this.rounds = new PromiseRounds({
      members,
      log,
      minWrite,
      reign,
      ask: askPromiseOver(peers, clock),
      onShown: (promise, isOwn) => leadership.shown(promise, isOwn),
    });
    this.pairs = new PairHealth({
      clock,
      incarnationOf: (server) => members.get(server)?.record.incarnation,
    });
    this.opener = new BlockOpener({
      map,
      members,
      pairs: this.pairs,
      series,
      clock,
      random,
      replicas,
      minWrite,
      requireReign: () => leadership.require(),
      ledForMs: () => leadership.ledForMs,
    });
    const { rival } = options;
    this.removal = new Removal({
      map,
      members,
      view,
      log,
      minWrite,
      requireReign: () => leadership.require(),
      tellOther: rival && tellRemovedOver(peers, rival.address),
      syncOps: (block) => this.opsSync.noted(block),
      onMapChange: () => this.#mapVersion.bump(),
    });
    this.registry = new Registry({
      removal: this.removal,
      clusterUuid,
      replicas,
      minWrite,
      map,
      members,
      leadership,
      series,
      view,
      sealer: this.sealer,
      opsSync: this.opsSync,
      clock,
      time,
      log,
      onMapChange: () => this.#mapVersion.bump(),
      onScrubbed: (blocks) => {
        if (this.leads) this.digests.noted(blocks);
      },
      onLeaving: () => {
        if (this.leads) this.#sweep.run(clock.monotonic());
      },
    });
    this.#sweep = new Sweep({
      unsettled: map.unsettled,
      facts: (block) => map.facts(block),
      isCurrent: (server) => this.#isCurrent(server),
      isLeaving: (server) => members.get(server)?.leaving === 'stopping' || members.isDrained(server),
      isFullSetPossible: (primary) => this.opener.isFullSetPossible(primary),
      enqueue: (block, why) => this.sealer.enqueue(block, why),
      isQueued: (block) => this.sealer.isQueued(block),
    });
    this.#short = new ShortCount({ map, clock, replicas, away: () => members.away });
    this.#locator = new Locator({
      map,
      mapVersion: () => this.#mapVersion.value,
      isViewComplete: () => view.isComplete(),
      reign,
      confirm: () => this.rounds.confirm(),
      faults,
    });
    this.#overview = new Overview({
      ...options,
      address: () => this.address,
      startedAtMs: clock.now(),
      map,
      members,
      leadership,
      view,
      series,
      mapVersion: this.#mapVersion,
      jobs: () => this.jobs.answers.figures(),
      blocks: () => this.blockFigures(),
    });
  }

  get address(): HostPort {
    return this.#server?.address ?? this.#options.address;
  }

  /** The one it leads under, or the highest it has heard of. */
  get reign(): Reign {
    return this.leadership.reign ?? this.leadership.highest;
  }

  get leads(): boolean {
    return this.leadership.reign !== undefined;
  }

  get underReplicated(): number {
    return this.#short.value;
  }

  /** END_SESSION from a primary. @throws TfsError NOT_LEADER */
  endSession({ server, block, reason, failed }: EndSession): void {
    this.leadership.require();
    this.#options.log.debug({ server, block, reason, failed }, 'a write session ended');
    if (this.map.facts(block)?.whole === Whole.SEALED) return;
    // A primary says it again until it has an answer.
    if (!this.sealer.isQueued(block)) for (const member of failed) this.pairs.failed(server, member);
    this.sealer.enqueue(block, reason, [server]);
  }

  /** REQUEST_CFG from a member. @throws TfsError UNREGISTERED, NOT_LEADER, and those of {@link Configurer.request} */
  requestConfiguration({ incarnation, block, failed, ...wish }: RequestCfg): Promise<RequestCfgReply> {
    this.leadership.require();
    this.members.hear(wish.server, incarnation);
    return this.configurer.request(block, failed, wish);
  }

  locate(blocks: readonly BlockId[]): LocateReply | Promise<LocateReply> {
    return this.#locator.locate(blocks);
  }

  get minWrite(): number {
    return this.#options.minWrite;
  }

  /** Failure domains with a DataServer that takes new blocks. */
  get writableDomains(): number {
    const able = this.members
      .infos()
      .filter(
        ({ state, io, drained }) =>
          state === 'up' && io.healthy && !io.readOnly && io.full !== true && !drained,
      );
    return new Set(able.map(({ domain }) => domain)).size;
  }

  /** How the blocks are, as far as this NameServer knows. */
  blockFigures(): ClusterMap['blocks'] {
    const { map, sealer, repairer, digests } = this;
    return blockFigures({ map, short: this.#short, sweep: this.#sweep, sealer, repairer, digests });
  }

  clusterMap(): ClusterMap {
    return this.#overview.clusterMap();
  }

  status(): Status {
    return this.#overview.status();
  }

  /**
   * Hands over to the other NameServer, finishes what is in flight and stores the map; the Kv stays open, it is the
   * caller's.
   */
  async close(): Promise<void> {
    await this.leadership.close();
    for (const timer of this.#timers) timer.cancel();
    const closing = [
      this.sealer.close(),
      this.opsSync.close(),
      this.configurer.close(),
      this.repairer.close(),
      this.digests.close(),
      this.dropper.close(),
      this.jobs.close(),
      this.compaction.close(),
      this.erasure.close(),
    ];
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
    this.view.notice().catch((error: unknown) => log.error({ err: error }, 'the view could not be noted'));
    this.jobs.pump();
    if (!this.leads) return;
    this.#noticeLost();
    this.#sweep.run(clock.monotonic());
    this.sealer.pump();
    this.opsSync.pump();
    this.configurer.pump();
    this.#absent.step();
    this.repairer.pump();
    this.digests.pump();
    this.drains.pump();
    this.#empty.step();
    this.dropper.pump();
    this.compaction.pump();
    this.erasure.pump();
  }

  /** What a DataServer was writing that is given up since, or whose disk has failed, the others have sealed without it. */
  #noticeLost(): void {
    const { deadMs = DEAD_MS, log } = this.#options;
    const { members, map } = this;
    for (const server of members.known) {
      const why = whyLost(server, { members, deadMs });
      const blocks = map.waitForSeals(server, why === undefined);
      if (blocks > 0)
        log.info({ server, blocks, why }, 'blocks go on with or without what a DataServer was writing');
    }
  }

  /** Whether this NameServer leads, and knows all that the server holds, which obeys it. */
  #isCurrent(server: ServerId): boolean {
    const { reign } = this.leadership;
    if (reign === undefined || this.members.reachable(server, reign) === undefined) return false;
    return this.members.get(server)?.table.isCurrent ?? false;
  }
}
