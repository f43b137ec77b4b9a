import { TfsError, toTfsError } from '../common/errors.ts';
import { beginConfiguration, decodeOpBodies, encodeOpBodies, type Op, OpType } from '../common/format/ops.ts';
import { type BlockId, compareVersions, type ServerId, type Version } from '../common/ids.ts';
import { RECONFIGURE_STEP_MS_MAX } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import {
  type Configure,
  decodeControl,
  encodeControl,
  type Member,
  zConfigure,
  zInstallOps,
  zPrepareOps,
} from '../common/wire/control.ts';
import { Op as WireOp } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { RpcRequest, RpcResult } from '../common/wire/rpc-server.ts';
import type { BlockStore, Faults } from './block/store.ts';
import type { Directory } from './directory.ts';
import type { OpsSequencer } from './ops-sequencer.ts';
import type { PromiseKeeper } from './promise.ts';

export interface ReconfigureDeps {
  readonly server: ServerId;
  readonly store: BlockStore;
  readonly peers: Pick<Peers, 'call'>;
  readonly promise: PromiseKeeper;
  readonly directory: Pick<Directory, 'learn'>;
  readonly ops: OpsSequencer;
  readonly log: Log;
  readonly faults?: Faults | undefined;
}

/**
 * The change of a block's configuration: who belongs to it, and who orders its operations. Decided by the leader,
 * carried out by the new opsPrimary in two steps: every new member stops taking operations of older versions and
 * tells its log; then one operation, made of all the logs, begins the new version on each of them.
 *
 * What was acknowledged under an older version is on every member of that version, so on any one of them that is a
 * member of the new one. What is acknowledged from now on needs every new member, and each of them takes nothing
 * older any more. So no operation is lost, and none is acknowledged by half of each.
 */
export class Reconfigurer {
  readonly #deps: ReconfigureDeps;
  /** The change of each block that is under way here. */
  readonly #running = new Map<BlockId, { readonly version: Version; readonly done: Promise<RpcResult> }>();

  constructor(deps: ReconfigureDeps) {
    this.#deps = deps;
  }

  /** CONFIGURE from the leader. When answered, every member of the new configuration holds it durably. */
  async configure({ header }: RpcRequest): Promise<RpcResult> {
    const { promise, directory, server } = this.#deps;
    const order = decodeControl(zConfigure, header, 'CONFIGURE');
    const { block, reign, version } = order;
    await promise.accept(reign);
    for (const { id, address } of order.members) directory.learn(id, address);
    const others = order.members.filter(({ id }) => id !== server);
    if (others.length === order.members.length)
      throw new TfsError('PROTOCOL', `CONFIGURE ${block}: DataServer ${server} is to order it and no member`);
    // The same order again: a second beginning of one version would give places in it away twice.
    const running = this.#running.get(block);
    if (running !== undefined && compareVersions(running.version, version) === 0) return running.done;
    const done = this.#carryOut(order, others);
    const entry = { version, done };
    this.#running.set(block, entry);
    try {
      return await done;
    } finally {
      if (this.#running.get(block) === entry) this.#running.delete(block);
    }
  }

  async #carryOut(order: Configure, others: readonly Member[]): Promise<RpcResult> {
    const { promise, store, ops, log } = this.#deps;
    const { block, reign, version } = order;
    const begin = await this.#begin(order, others);
    // The own log first: it then holds everything that any member may hold (see docs/decisions/004).
    await promise.during(reign, () => store.appendOps(block, [begin]));
    await this.#each(block, others, ({ address }) =>
      this.#deps.peers.call(
        address,
        WireOp.INSTALL_OPS,
        encodeControl({ block, reign, version }),
        [encodeOpBodies([begin])],
        RECONFIGURE_STEP_MS_MAX,
      ),
    );
    const members = order.members.map(({ id }) => id);
    ops.reset(block, members);
    log.info(
      { block, version, members, merged: begin.type === OpType.SNAPSHOT },
      'a new configuration begins',
    );
    return { header: encodeControl({ version, seq: begin.seq }) };
  }

  /** PREPARE_OPS from the new opsPrimary. */
  async prepare({ header }: RpcRequest): Promise<RpcResult> {
    const { block, reign, version } = decodeControl(zPrepareOps, header, 'PREPARE_OPS');
    await this.#deps.promise.accept(reign);
    const ops = await this.#deps.store.prepareOps(block, version);
    const info = this.#deps.store.info(block);
    return {
      header: encodeControl({ version: info?.version, seq: info?.seq }),
      payload: [encodeOpBodies(ops)],
    };
  }

  /** INSTALL_OPS from the new opsPrimary: the operation that begins the version. Durable when answered. */
  async install({ header, payload, peer }: RpcRequest): Promise<RpcResult> {
    const { store, promise, server } = this.#deps;
    const { block, reign, version } = decodeControl(zInstallOps, header, 'INSTALL_OPS');
    await promise.accept(reign);
    const ops = opsIn(payload);
    const [begin] = ops;
    const configuration = begin && configurationIn(begin);
    if (
      begin === undefined ||
      ops.length !== 1 ||
      configuration === undefined ||
      compareVersions(begin.version, version) !== 0 ||
      String(configuration.opsPrimary) !== peer.id ||
      !configuration.members.includes(server)
    )
      throw new TfsError(
        'PROTOCOL',
        `INSTALL_OPS ${block}: this does not begin version (${version.epoch}, ${version.n})`,
      );
    const info = store.info(block);
    const newest = info?.prepared ?? info?.version;
    if (newest !== undefined && compareVersions(version, newest) < 0)
      throw new TfsError('STALE_EPOCH', `block ${block}: a newer configuration is being agreed on`, {
        details: { epoch: newest.epoch, n: newest.n },
      });
    await promise.during(reign, () => store.appendOps(block, ops));
    return { header: encodeControl({}) };
  }

  /** The operation that begins the new version, from the logs of all its members. */
  async #begin({ block, reign, version, members }: Configure, others: readonly Member[]): Promise<Op> {
    const { store, peers, server } = this.#deps;
    // This one first: as long as it takes older operations nothing has changed.
    const own = { server, ops: await store.prepareOps(block, version) };
    const logs = await this.#each(block, others, async ({ id, address }) => {
      const ask = encodeControl({ block, reign, version });
      const reply = await peers.call(address, WireOp.PREPARE_OPS, ask, undefined, RECONFIGURE_STEP_MS_MAX);
      return { server: id, ops: opsIn(reply.payload) };
    });
    const all = this.#deps.faults?.has('begin-without-merging') ? [own] : [own, ...logs];
    return beginConfiguration(all, {
      version,
      members: members.map(({ id }) => id),
      opsPrimary: server,
      atMs: store.opsNow,
      tombstonesWin: this.#deps.faults?.has('tombstone-always-wins') ?? false,
    });
  }

  /** @throws TfsError UNAVAILABLE, details `avoid`: the members that failed; STALE_EPOCH when a newer version is known */
  async #each<T>(
    block: BlockId,
    members: readonly Member[],
    ask: (member: Member) => Promise<T>,
  ): Promise<T[]> {
    const outcomes = await Promise.allSettled(members.map(ask));
    const failed: ServerId[] = [];
    let cause: TfsError | undefined;
    const results: T[] = [];
    outcomes.forEach((outcome, i) => {
      if (outcome.status === 'fulfilled') results.push(outcome.value);
      else {
        const error = toTfsError(outcome.reason);
        if (cause?.code !== 'STALE_EPOCH') cause = error;
        failed.push(members[i]!.id);
      }
    });
    if (cause === undefined) return results;
    if (cause.code === 'STALE_EPOCH') throw cause;
    throw new TfsError(
      'UNAVAILABLE',
      `DataServer ${failed.join(', ')} cannot take part in a new configuration of block ${block}: ${cause.message}`,
      { cause, details: { avoid: failed } },
    );
  }
}

function configurationIn(op: Op) {
  if (op.type === OpType.CFG) return op;
  return op.type === OpType.SNAPSHOT ? op.state.cfg : undefined;
}

function opsIn(payload: Buffer): Op[] {
  const ops = decodeOpBodies(payload);
  if (!ops.ok) throw new TfsError('PROTOCOL', ops.why);
  return ops.value;
}
