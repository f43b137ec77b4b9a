import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { type BlockId, epochOf, type Millis } from '../../common/ids.ts';
import { decodeControl, encodeControl, type Reign, zDropReply } from '../../common/wire/control.ts';
import { BlockState, Op } from '../../common/wire/messages.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import { dropOrder } from '../../dataserver/drop-order.ts';
import { PromiseKeeper } from '../../dataserver/promise.ts';
import { LocalCluster } from '../kit/local-cluster.ts';
import { turns } from '../kit/memory-net.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { describe } from '../kit/suite.ts';

const reignOf = (epoch: number): Reign => ({ epoch: epochOf(epoch), nameserver: 0 });
const requestOf = (epoch: number) => ({
  op: Op.DROP,
  header: encodeControl({
    block: 65_537,
    reign: reignOf(epoch),
    generation: 0,
    version: { epoch: 3, n: 1 },
    reason: 'excess',
  }),
  payload: Buffer.alloc(0),
  deadlineAt: Number.MAX_SAFE_INTEGER as Millis,
  peer: { role: 'nameserver' as const, id: '0', remote: { host: 'node', port: 1 } },
});

describe('an order to drop', (test) => {
  test('is obeyed under the reign that was promised, and under no older one', async () => {
    const promise = await PromiseKeeper.open(new RecordingDisk());
    const dropped: number[] = [];
    const store = { drop: async ({ block }: { block: number }) => dropped.push(block) > 0 };
    await promise.accept(reignOf(5));
    await dropOrder({ store, promise }, requestOf(4)).then(
      () => assert.unreachable(),
      (error: { code: string }) => assert.is(error.code, 'STALE_EPOCH'),
    );
    assert.equal(dropped, []);
    const { header } = await dropOrder({ store, promise }, requestOf(6));
    assert.equal(decodeControl(zDropReply, header, 'reply'), { dropped: true });
    assert.equal([dropped, promise.reign.epoch as number], [[65_537], 6]);
  });

  test('ends before a later leader is shown a promise: it never counts what is about to go', async () => {
    const promise = await PromiseKeeper.open(new RecordingDisk());
    let end: () => void = () => undefined;
    const store = { drop: () => new Promise<boolean>((resolve) => (end = () => resolve(true))) };
    const dropping = dropOrder({ store, promise }, requestOf(4));
    await turns(5);
    const later = promise.accept(reignOf(5));
    await turns(20);
    assert.is(promise.reign.epoch as number, 4);
    end();
    await Promise.all([dropping, later]);
    assert.is(promise.reign.epoch as number, 5);
  });
});

describe('empty blocks', (test) => {
  test('are gone everywhere soon after they were sealed, and their ids stay used', async (t) => {
    const cluster = await LocalCluster.start(t);
    const body = randomBytes(5000);
    const { name, key } = await cluster.client.put(body);
    const before = new Set([...cluster.servers.values()].flatMap(({ store }) => [...store.blocks]));
    assert.ok(before.size > 1, 'open blocks that nothing was written to');
    await cluster.stopServer(2);
    await cluster.startServer(2);
    const stores = () => [...cluster.servers.values()].map(({ store }) => store);
    const gone = () => new Set(stores().flatMap((store) => [...store.dropped]));
    const isEmpty = (store: BlockStore) => (block: BlockId) => {
      const info = store.info(block)!;
      return info.state === BlockState.SEALED && info.slots === 0;
    };
    const isSettled = (): boolean =>
      gone().size > 0 &&
      !stores().some((store) => store.blocks.some(isEmpty(store))) &&
      ![...gone()].some((block) => cluster.nameserver.map.has(block));
    for (let i = 0; i < 400 && !isSettled(); i++) await sleep(50);
    assert.ok(isSettled(), 'no empty sealed block is left, nor known');
    assert.not.ok(gone().has(key.block));
    const picture = await cluster.client.get(name);
    const pieces: Buffer[] = [];
    for await (const piece of picture.pieces()) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(body));
  });
}, 60_000);
