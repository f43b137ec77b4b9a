import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { encodeSuperblock } from '../../common/format/superblock.ts';
import { type BlockId, epochOf, incarnationOf } from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import { decodeControl, encodeControl, type FenceReply, zFenceReply } from '../../common/wire/control.ts';
import { BlockState } from '../../common/wire/messages.ts';
import type { Peers } from '../../common/wire/peers.ts';
import type { RpcRequest } from '../../common/wire/rpc-server.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import type { Directory } from '../../dataserver/directory.ts';
import { PromiseKeeper } from '../../dataserver/promise.ts';
import { Replica } from '../../dataserver/replica.ts';
import {
  CLUSTER,
  MEMBERS,
  openStore,
  raw,
  SERVER,
  superblockOf,
  VERSION,
  Writer,
} from '../kit/block-world.ts';
import { codeOf } from '../kit/code-of.ts';
import { FaultyDisk } from '../kit/faulty-disk.ts';
import { turns } from '../kit/memory-net.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { describe, type TestContext } from '../kit/suite.ts';

const BLOCK = 65_537 as BlockId;
const REIGN = { epoch: epochOf(1), nameserver: 0 };

class World {
  readonly disk: FaultyDisk;
  readonly store: BlockStore;
  readonly replica: Replica;

  private constructor(disk: FaultyDisk, store: BlockStore, promise: PromiseKeeper) {
    this.disk = disk;
    this.store = store;
    this.replica = new Replica({
      server: SERVER,
      clusterUuid: CLUSTER,
      store,
      peers: undefined as unknown as Peers,
      promise,
      directory: { learn: () => undefined } as unknown as Directory,
      log: silentLog,
      onSealed: () => undefined,
      onFenced: () => undefined,
    });
  }

  static async open(t: TestContext): Promise<World> {
    const disk = new FaultyDisk(new RecordingDisk());
    const promise = await PromiseKeeper.open(disk);
    await promise.accept(REIGN);
    const store = await openStore(disk);
    t.defer(() => store.close());
    return new World(disk, store, promise);
  }

  /** As a primary orders it. */
  create(): Promise<unknown> {
    const members = MEMBERS.map((id) => ({
      id,
      incarnation: incarnationOf(1),
      address: { host: 'ds', port: id },
    }));
    const order = { block: BLOCK, reign: REIGN, version: VERSION, opsPrimary: SERVER, members };
    return this.replica.create(requestOf(order, encodeSuperblock(superblockOf(BLOCK))));
  }

  async fence(): Promise<FenceReply> {
    const { header } = await this.replica.fence(requestOf({ block: BLOCK, reign: REIGN }));
    return decodeControl(zFenceReply, header as Buffer, 'FENCE');
  }

  append(): Promise<void> {
    const writer = new Writer(superblockOf(BLOCK));
    const batch = writer.batch([Buffer.alloc(100)]);
    return this.store.appendRaw(BLOCK, writer.superblock.session, batch.offset, raw(batch), writer.acked);
  }
}

const requestOf = (order: object, payload: Buffer = Buffer.alloc(0)): RpcRequest =>
  ({ header: encodeControl(order), payload }) as unknown as RpcRequest;

describe('a block that is fenced before it is made', (test) => {
  test('and is being made, on a disk that hangs, is not said to be absent, and takes nothing after the answer', async (t) => {
    const world = await World.open(t);
    world.disk.hang();
    const made = world.create();
    await turns(5);
    let answered = false;
    const fenced = world.fence().finally(() => {
      answered = true;
    });
    await turns(20);
    assert.is(answered, false, 'nobody knows yet');
    world.disk.release();
    await made;
    const { known, validLength } = await fenced;
    assert.equal([known, validLength], [true, 4096]);
    assert.is(world.store.info(BLOCK)!.state, BlockState.FENCED);
    assert.is(await codeOf(world.append()), 'SESSION_ENDED');
  });

  test('and cannot be made is absent', async (t) => {
    const world = await World.open(t);
    world.disk.hang();
    const made = codeOf(world.create());
    await turns(5);
    const fenced = world.fence();
    world.disk.failing = { path: /blk/, error: new TfsError('DISK_FULL', 'planted') };
    world.disk.release();
    assert.is(await made, 'DISK_FULL');
    assert.is((await fenced).known, false);
    assert.is(await codeOf(world.create()), 'CONFLICT', 'and is not tried again');
  });

  test('is not made any more when the order to do so comes late', async (t) => {
    const world = await World.open(t);
    assert.is((await world.fence()).known, false);
    assert.is(await codeOf(world.create()), 'CONFLICT');
    assert.is((await world.fence()).known, false);
    assert.equal(world.store.blocks, []);
  });
});
