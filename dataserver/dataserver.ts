import { TfsError, toTfsError } from '../common/errors.ts';
import type { RecordHeader } from '../common/format/record.ts';
import { type BlockId, fileId, type HostPort, type Incarnation, type ServerId } from '../common/ids.ts';
import { RECONFIGURE_MS_MAX } from '../common/limits.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import {
  type ConfigurationWish,
  encodeControl,
  type Heartbeat,
  type Status,
  zRequestCfgReply,
} from '../common/wire/control.ts';
import { ROLES, type Role } from '../common/wire/keys.ts';
import { Op } from '../common/wire/messages.ts';
import { Peers } from '../common/wire/peers.ts';
import { type RpcHandler, RpcServer } from '../common/wire/rpc-server.ts';
import { BlockStore } from './block/store.ts';
import { Changes } from './changes/changes.ts';
import { RecentChanges } from './changes/recent-changes.ts';
import { ClusterTime } from './cluster-time.ts';
import { CompactionSteps } from './compaction.ts';
import { Deduplicator } from './dedup.ts';
import { DigestIndex } from './digest-index.ts';
import { Directory } from './directory.ts';
import { dropOrder, dropUnasked } from './drop-order.ts';
import { findContent } from './erase/content.ts';
import { clearTraces } from './erase/traces.ts';
import { Indexer } from './indexer.ts';
import { Inspector } from './inspect.ts';
import { JobWorker } from './jobs/worker.ts';
import { untilSealed } from './leave.ts';
import { nextIncarnation } from './mount.ts';
import { MountWatch } from './mount-watch.ts';
import { mutate } from './mutate.ts';
import { NameServers } from './nameservers.ts';
import { Nonces } from './nonces.ts';
import { OpsSequencer } from './ops-sequencer.ts';
import type { DataServerOptions } from './options.ts';
import { DiskProbe } from './probe.ts';
import { PromiseKeeper } from './promise.ts';
import { promiseOrder } from './promise-order.ts';
import { PutService } from './put.ts';
import { Reader } from './reader.ts';
import { Reconfigurer } from './reconfigure.ts';
import { ReplicaRepair } from './repair.ts';
import { Replica } from './replica.ts';
import { ScrubLedger } from './scrub/ledger.ts';
import { ScrubOrders } from './scrub/orders.ts';
import { ReadClock } from './scrub/read-times.ts';
import { Scrubber } from './scrub/scrubber.ts';
import { SessionPool } from './session-pool.ts';
import { SlowDisk } from './slow-disk.ts';
import { SpaceSurvey } from './space/space-survey.ts';
import { Suspects } from './suspects.ts';
import { Takeover } from './takeover.ts';
import { Uplink } from './uplink.ts';
import { readOnlyReason, UplinkReport } from './uplink-report.ts';

/** The server of one mount: what it holds, what it answers, whom it reports to. */
export class DataServer {
  readonly options: DataServerOptions;
  readonly incarnation: Incarnation;
  readonly store: BlockStore;
  readonly puts: PutService;
  readonly index: DigestIndex;
  readonly probe: DiskProbe;
  readonly pool: SessionPool;
  readonly nameservers: NameServers;
  readonly indexer: Indexer;
  readonly repair: ReplicaRepair;
  readonly scrubber: Scrubber;
  readonly spaceSurvey: SpaceSurvey;
  readonly jobs: JobWorker | undefined;
  readonly compaction: CompactionSteps;
  readonly changes: Changes;
  readonly reads: ReadClock;
  readonly #rpc: RpcServer;
  readonly #peers: Peers;
  readonly #suspects: Suspects;
  readonly #report: UplinkReport;
  readonly #slowDisk: SlowDisk;
  readonly #startedAtMs: number;
  #closing = false;
  #trashTimer: Timer | undefined;
  #reopenTimer: Timer | undefined;

  private constructor(parts: {
    options: DataServerOptions;
    incarnation: Incarnation;
    store: BlockStore;
    puts: PutService;
    index: DigestIndex;
    probe: DiskProbe;
    pool: SessionPool;
    nameservers: NameServers;
    indexer: Indexer;
    rpc: RpcServer;
    peers: Peers;
    suspects: Suspects;
    report: UplinkReport;
    repair: ReplicaRepair;
    scrubber: Scrubber;
    spaceSurvey: SpaceSurvey;
    jobs: JobWorker | undefined;
    compaction: CompactionSteps;
    changes: Changes;
    reads: ReadClock;
    slowDisk: SlowDisk;
  }) {
    this.options = parts.options;
    this.reads = parts.reads;
    this.incarnation = parts.incarnation;
    this.store = parts.store;
    this.puts = parts.puts;
    this.index = parts.index;
    this.probe = parts.probe;
    this.pool = parts.pool;
    this.nameservers = parts.nameservers;
    this.indexer = parts.indexer;
    this.#rpc = parts.rpc;
    this.#peers = parts.peers;
    this.#suspects = parts.suspects;
    this.#report = parts.report;
    this.repair = parts.repair;
    this.scrubber = parts.scrubber;
    this.spaceSurvey = parts.spaceSurvey;
    this.jobs = parts.jobs;
    this.compaction = parts.compaction;
    this.changes = parts.changes;
    this.#slowDisk = parts.slowDisk;
    this.#startedAtMs = parts.options.clock.now();
  }

  /**
   * Opens the store, listens, and begins to register; does not wait for a NameServer. Blocks that were being written
   * when the last process ended are walked in the background: new ones are open before that.
   */
  static async open(options: DataServerOptions): Promise<DataServer> {
    const { disk, clock, random, server, log, clusterUuid } = options;
    const incarnation = await nextIncarnation(disk);
    const promise = await PromiseKeeper.open(disk, options.faults);
    const nonces = await Nonces.open(disk, log);
    let onChanged: (block: Parameters<NameServers['changed']>[0]) => void = () => undefined;
    let onCorrupt: (block: BlockId) => void = () => undefined;
    let onLeader: () => void = () => undefined;
    let onLost: (address: HostPort) => void = () => undefined;
    const time = new ClusterTime(clock);
    const recent = new RecentChanges(() => time.now());
    const store = await BlockStore.open({
      disk,
      clock,
      ...(options.faults?.has('trust-own-clock') ? {} : { opsNow: () => time.now() }),
      random,
      clusterUuid,
      server,
      log,
      budgets: { indexBytes: options.indexBytes, openFiles: options.openFiles },
      events: {
        changed: (block) => onChanged(block),
        ops: (block, ops, state, how) => recent[how](block, ops, state),
        ioError: (error) =>
          log.error({ err: error }, `this DataServer only reads from now on: ${readOnlyReason(error)}`),
        corrupt: (block) => onCorrupt(block),
      },
      ...(options.faults === undefined ? {} : { faults: options.faults }),
    });
    const ledger = await ScrubLedger.open(options.kv, log, (block) => store.info(block) !== undefined);
    for (const block of ledger.damaged) store.foundDamagedBefore(block);
    promise.makeRoom = () => store.releaseReserve();
    const peers = Peers.open({
      net: options.net,
      clock,
      random,
      keyring: options.keyring,
      role: 'dataserver',
      id: String(server),
      onLost: (address) => onLost(address),
    });
    const watch = await MountWatch.open(disk, options.mountPath, incarnation);
    const probe = await DiskProbe.open({
      disk,
      clock,
      log,
      look: () => watch.look(),
      onLost: (error) => {
        store.stopWriting(error);
        if (error.code === 'REFUSED') options.onMountTaken(error);
      },
      makeRoom: () => store.releaseReserve(),
    });
    const suspects = new Suspects({ clock, peers });
    const report = await UplinkReport.open({ options, incarnation, store, promise, probe, suspects });
    const uplinks = options.nameservers.map(
      ({ id: nameserver, host, port }) =>
        new Uplink({
          nameserver,
          address: { host, port },
          nonces,
          server,
          peers,
          clock,
          log,
          promise,
          source: report,
          onRegistered: () => probe.inService(),
          onLeader: () => onLeader(),
          onTime: (wallMs) => time.hear(wallMs),
          onRefused: options.onRefused,
        }),
    );
    const nameservers = new NameServers({ uplinks, peers, clock, promise });
    onChanged = (block) => {
      nameservers.changed(block);
      if (ledger.damaged.has(block) && !store.isSuspect(block)) void ledger.noteDamage(block, false);
    };
    onCorrupt = (block) => {
      // The sooner the leader knows, the sooner it is repaired.
      nameservers.hurry();
      void ledger.noteDamage(block, true);
    };
    const directory = new Directory({ nameservers, clock });
    const index = new DigestIndex({ kv: options.kv, clock, log });
    const requestConfiguration = (
      block: BlockId,
      failed: readonly ServerId[],
      wish: ConfigurationWish = {},
    ) =>
      nameservers.callLeader(
        Op.REQUEST_CFG,
        { server, incarnation, block, failed, ...wish },
        zRequestCfgReply,
        RECONFIGURE_MS_MAX,
      );
    const ops = new OpsSequencer({
      server,
      store,
      peers,
      directory,
      clock,
      minWrite: options.minWrite,
      requestConfiguration,
      onSetBack: options.onRefused,
      onDiskLate: () => probe.doubt(),
      isTimeKnown: () => time.isKnown || options.faults?.has('trust-own-clock') === true,
      faults: options.faults,
    });
    const takeover = new Takeover({
      ...{ server, store, peers, directory, requestConfiguration },
      unfit: () => unfit(store, probe),
    });
    const reconfigurer = new Reconfigurer({
      server,
      store,
      peers,
      promise,
      directory,
      ops,
      log,
      faults: options.faults,
    });
    const pool = new SessionPool({
      ...options,
      incarnation,
      store,
      peers,
      nameservers,
      promise,
      suspects,
      unfit: () => unfit(store, probe),
      onDiskLate: () => probe.doubt(),
      ...(options.faults?.has('index-before-ack')
        ? {
            onOwn: (block: BlockId, headers: readonly RecordHeader[]) => {
              for (const { sha1, opId, slot } of headers)
                index.add(sha1, opId, { block, fileId: fileId(slot) }, true);
            },
          }
        : {}),
    });
    const slowDisk = new SlowDisk({ server, clock, log, store, probe, pool, promise });
    const reads = new ReadClock(clock);
    const scrubber = new Scrubber({
      store,
      ledger,
      reads,
      clock,
      log,
      passMs: options.scrubPassMs,
      bytesPerSecond: options.scrubBytesPerSecond,
    });
    const spaceSurvey = new SpaceSurvey({ store, clock, log, windowMs: options.undeleteWindowMs });
    report.attach({ pool, scrubber, spaceSurvey });
    onLeader = () => pool.leaderFound();
    onLost = (address) => pool.peerLost(address);
    const dedup = new Deduplicator({ server, store, index, ops, random, faults: options.faults });
    const puts = new PutService({ blockBytes: options.blockBytes, pool, index, dedup, log });
    const reader = new Reader({ store, nameservers, reads, faults: options.faults });
    const indexer = new Indexer({ server, store, index, log });
    const replica = new Replica({
      server,
      clusterUuid,
      store,
      peers,
      promise,
      directory,
      log,
      onSealed: (block) => indexer.sealed(block),
      onFenced: (block) => pool.fenced(block),
    });
    const repair = new ReplicaRepair({
      server,
      store,
      peers,
      promise,
      directory,
      onRepaired: (block) => {
        indexer.repaired(block);
        scrubber.made(block);
        nameservers.hurry();
      },
    });
    const jobs =
      options.jobs &&
      new JobWorker({
        ...options.jobs,
        ...{ server, incarnation, nameservers, repair, scrubber, clock, log },
        ...(options.faults?.has('drop-on-job')
          ? { dropUnwanted: (block: BlockId) => dropUnasked(store, block) }
          : {}),
      });
    const changes = new Changes({ incarnation, recent, store, clock, log });
    const compaction = new CompactionSteps({
      reads,
      store,
      changes,
      ops,
      promise,
      directory,
      donors: (order) => repair.donors(order),
      clock,
      random,
      undeleteWindowMs: options.undeleteWindowMs,
      faults: options.faults,
      onCommitted: (block) => {
        indexer.sealed(block);
        nameservers.hurry();
      },
    });
    const rpc = await RpcServer.listen({ ...options, id: String(server) });
    const dataServer = new DataServer({
      reads,
      options,
      incarnation,
      store,
      puts,
      index,
      probe,
      pool,
      nameservers,
      indexer,
      rpc,
      peers,
      suspects,
      report,
      repair,
      scrubber,
      spaceSurvey,
      jobs,
      compaction,
      changes,
      slowDisk,
    });
    const scrubOrders = new ScrubOrders({ store, scrubber, ledger });
    route(rpc, dataServer, { clock, scrubOrders, reader, replica, ops, takeover, reconfigurer, promise });
    nameservers.start();
    pool.start();
    slowDisk.start();
    indexer.start();
    scrubber.start();
    spaceSurvey.start();
    jobs?.start();
    void index.fillFilter();
    void dataServer.#keepSpares();
    dataServer.#trashTimer = clock.every(tunable.trashPurgeMs, () => {
      store
        .purgeTrash()
        .catch((error: unknown) => log.warn({ err: error }, 'the trash could not be emptied'));
    });
    dataServer.#reopenTimer = clock.every(tunable.quarantinedAgainMs, () => {
      store
        .reopenQuarantined()
        .then((blocks) => {
          for (const block of blocks) indexer.repaired(block);
        })
        .catch((error: unknown) => log.warn({ err: error }, 'blocks could not be looked at again'));
    });
    return dataServer;
  }

  get address(): HostPort {
    return this.#rpc.address;
  }

  get io(): Heartbeat['io'] {
    return this.#report.io;
  }

  get space(): Heartbeat['space'] {
    return this.#report.space;
  }

  /** Peers that failed a write in the last minute. */
  get suspectedPeers(): number {
    return this.#suspects.all.length;
  }

  get isStopping(): boolean {
    return this.#closing;
  }

  status(): Status {
    const { options, store } = this;
    const { io } = this.#report;
    const state = this.#closing
      ? 'stopping'
      : io.readOnly
        ? 'read-only'
        : !io.healthy
          ? 'disk fails'
          : !this.nameservers.inContact
            ? 'no NameServer'
            : io.full
              ? 'disk full'
              : io.slow
                ? 'disk slow'
                : this.pool.openCount === 0
                  ? 'opening blocks'
                  : 'ok';
    const totals = store.totals();
    return {
      kind: 'dataserver',
      id: String(options.server),
      pid: options.pid,
      address: `${this.address.host}:${this.address.port}`,
      mount: options.mountPath,
      state,
      startedAtMs: this.#startedAtMs,
      version: options.version,
      details: {
        incarnation: this.incarnation,
        blocks: totals.blocks,
        openBlocks: this.pool.openCount,
        files: totals.files,
        aliases: totals.aliases,
        bytes: totals.bytes,
        spares: totals.spares,
        dedup: this.index.enabled,
        ...(io.reason === undefined ? {} : { reason: io.reason }),
      },
    };
  }

  /** @throws TfsError CLOSED when it stops: what is begun here now would only have to be ended */
  assertStays(): void {
    if (this.#closing) throw new TfsError('CLOSED', `DataServer ${this.options.server} stops`);
  }

  /**
   * Leaves: lets writes in flight finish, ends the sessions, waits for the seals of what was being written here, says
   * that it is gone, closes the files.
   */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    this.#trashTimer?.cancel();
    this.#reopenTimer?.cancel();
    this.repair.close();
    const scrubbed = this.scrubber.close();
    this.spaceSurvey.close();
    const idle = this.jobs?.close();
    await this.compaction.close();
    this.#slowDisk.close();
    const { store, nameservers } = this;
    const { clock, log } = this.options;
    // Told first, so that no new block is placed here; its own sessions end next, those of others when they are fenced.
    this.#report.leaving = 'stopping';
    nameservers.hurry();
    await this.pool.close();
    await untilSealed({ store, clock, log, isLed: () => nameservers.inContact });
    await idle;
    await this.#rpc.drain();
    // Nothing is answered any more: others may go on as if its copies did not exist.
    this.#report.leaving = 'gone';
    await nameservers.close();
    await this.indexer.close();
    await scrubbed;
    this.#suspects.close();
    await this.#peers.close();
    await this.#rpc.close();
    await this.probe.close();
    await this.index.flush();
    await this.store.close();
    await this.options.kv.close();
  }

  async #keepSpares(): Promise<void> {
    const { spareBlocks, blockBytes, clock, log } = this.options;
    while (!this.#closing && spareBlocks > 0) {
      try {
        if (this.store.readOnly === undefined) await this.store.prepareSpares(spareBlocks, blockBytes);
      } catch (error) {
        if (this.#closing) return;
        log.warn(
          { reason: toTfsError(error).message },
          'spare blocks could not be prepared; blocks grow instead',
        );
      }
      await clock.sleep(1000);
    }
  }
}

/** Why nothing new should be put on this disk now. */
function unfit(store: BlockStore, probe: DiskProbe): TfsError | undefined {
  if (store.readOnly !== undefined)
    return new TfsError(
      'READ_ONLY',
      `the disk of this DataServer takes no writes: ${store.readOnly.message}`,
    );
  const { healthy, reason } = probe.health;
  if (healthy) return undefined;
  return new TfsError('RETRY_ELSEWHERE', `the disk of this DataServer is not fit: ${reason}`, {
    retryAfterMs: 1000,
  });
}

function route(
  rpc: RpcServer,
  server: DataServer,
  {
    scrubOrders,
    reader,
    replica,
    ops,
    takeover,
    reconfigurer,
    promise,
    clock,
  }: {
    clock: Clock;
    scrubOrders: ScrubOrders;
    reader: Reader;
    replica: Replica;
    ops: OpsSequencer;
    takeover: Takeover;
    reconfigurer: Reconfigurer;
    promise: PromiseKeeper;
  },
): void {
  const { incarnation, nameservers } = server;
  const on = (op: number, roles: readonly Role[], handler: RpcHandler): void =>
    rpc.handle(op, roles, handler);
  on(Op.PUT, ['gateway'], (request) => server.puts.put(request));
  on(Op.READ, ['gateway'], (request) => reader.read(request));
  on(Op.CHECK, ['gateway'], (request) => reader.check(request));
  const mutating = { store: server.store, ops, reader, takeover, clock };
  on(Op.MUTATE, ['gateway'], (request) => mutate(mutating, request));
  on(Op.CHANGES, ['gateway', 'operator'], (request) => server.changes.tell(request));
  on(Op.CREATE_BLOCK, ['dataserver'], (request) => {
    server.assertStays();
    return replica.create(request);
  });
  on(Op.APPEND, ['dataserver'], (request) => replica.append(request));
  on(Op.OPS, ['dataserver'], (request) => replica.ops(request));
  on(Op.READ_RAW, ['dataserver'], (request) => replica.readRaw(request));
  on(Op.OPS_TAIL, ['dataserver'], (request) => replica.opsTail(request));
  on(Op.CAN_ORDER, ['dataserver'], () => ({
    header: encodeControl({ able: nameservers.inContact && unfit(server.store, server.probe) === undefined }),
  }));
  on(Op.PROMISE, ['nameserver'], (request) =>
    promiseOrder({ server: server.options.server, incarnation, promise, nameservers }, request),
  );
  on(Op.FENCE, ['nameserver'], (request) => replica.fence(request));
  on(Op.SEAL, ['nameserver'], (request) => replica.seal(request));
  on(Op.SYNC_OPS, ['nameserver'], (request) => replica.syncOps(request));
  on(Op.CONFIGURE, ['nameserver'], (request) => reconfigurer.configure(request));
  on(Op.PREPARE_OPS, ['dataserver'], (request) => reconfigurer.prepare(request));
  on(Op.INSTALL_OPS, ['dataserver'], (request) => reconfigurer.install(request));
  on(Op.REPAIR, ['nameserver'], (request) => server.repair.repair(request));
  on(Op.DROP, ['nameserver'], (request) => dropOrder({ store: server.store, promise }, request));
  on(Op.PURGE, ['nameserver'], (request) => server.compaction.purge(request));
  on(Op.PREPARE_GENERATION, ['nameserver'], (request) => server.compaction.prepare(request));
  on(Op.COMMIT_GENERATION, ['nameserver'], (request) => server.compaction.commit(request));
  on(Op.ABANDON_GENERATION, ['nameserver'], (request) => server.compaction.abandon(request));
  on(Op.CLEAR_TRACES, ['nameserver'], (request) =>
    clearTraces({ store: server.store, index: server.index, promise }, request),
  );
  on(Op.BLOCK_HEAD, ['dataserver', 'nameserver'], (request) => server.repair.head(request));
  const inspector = new Inspector(server.store, server.spaceSurvey);
  on(Op.LIST_BLOCKS, ['operator'], () => inspector.list());
  on(Op.FIND_CONTENT, ['operator'], (request) =>
    findContent({ store: server.store, clock: server.options.clock }, request),
  );
  on(Op.BLOCK_SPACE, ['operator'], (request) => inspector.blockSpace(request));
  on(Op.VERIFY, ['operator'], (request) => inspector.verify(request));
  on(Op.SCRUB, ['operator'], (request) => scrubOrders.scrub(request));
  on(Op.BLOCK_DIGESTS, ['nameserver'], (request) => scrubOrders.digests(request));
  on(Op.STATUS, ROLES, () => ({ header: encodeControl(server.status()) }));
}
