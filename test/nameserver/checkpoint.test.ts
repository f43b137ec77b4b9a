import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { blockId, type ServerId } from '../../common/ids.ts';
import { BlockState } from '../../common/wire/messages.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { Checkpoint } from '../../nameserver/checkpoint.ts';
import { captureLog } from '../kit/capture-log.ts';
import { MemoryKvMedium } from '../kit/memory-kv.ts';
import { describe } from '../kit/suite.ts';
import { entryOf, servers } from './entries.ts';

const ALL = servers(1, 2, 3, 4, 5);
const IDS = [0x2_0000, 0x2_0007, 0x2_0400, 0x2_ffff, 0x7_0001].map(blockId);

function filled(): BlockMap {
  const map = new BlockMap();
  for (const [i, block] of IDS.entries())
    for (const server of ALL.slice(0, i + 1))
      map.report(
        server,
        entryOf({ block, state: BlockState.SEALED, length: 5000 + i, seq: i, epoch: 2 ** 40 + i }),
      );
  return map;
}

async function open(medium: MemoryKvMedium, map: BlockMap) {
  const log = captureLog();
  const kv = await medium.open();
  return { checkpoint: new Checkpoint({ kv, map, log }), log, kv };
}

describe('checkpoint', (test) => {
  test('a map comes back as it was, its replicas unconfirmed', async () => {
    const medium = new MemoryKvMedium();
    const map = filled();
    await (await open(medium, map)).checkpoint.flush();
    medium.crash(99);
    const loaded = new BlockMap();
    const highest = await (await open(medium, loaded)).checkpoint.load();
    for (const block of IDS) {
      const before = map.facts(block)!;
      const after = loaded.facts(block)!;
      assert.ok(after.replicas.every(({ confirmed }) => !confirmed));
      assert.equal({ ...after, replicas: [] }, { ...before, replicas: [] });
      assert.equal(
        after.replicas.map((replica) => ({ ...replica, confirmed: true })),
        before.replicas,
      );
    }
    assert.equal(loaded.counts, map.counts);
    for (const server of ALL) assert.is(loaded.digestOf(server), map.digestOf(server));
    assert.is(highest.get(2), 0xffff);
    assert.is(highest.get(7), 1);
  });

  test('only what changed is written, and what is gone is removed', async () => {
    const medium = new MemoryKvMedium();
    const map = filled();
    const { checkpoint, kv } = await open(medium, map);
    await checkpoint.flush();
    const entries = async () => {
      let count = 0;
      for await (const _ of kv.entries({})) count++;
      return count;
    };
    assert.is(await entries(), 4, 'two of the blocks share a segment');
    const writes = medium.writes;
    await checkpoint.flush();
    assert.is(medium.writes, writes);
    map.report(
      ALL[0] as ServerId,
      entryOf({ block: IDS[0]!, state: BlockState.SEALED, length: 5000, seq: 0, epoch: 2 ** 40 }),
    );
    await checkpoint.flush();
    assert.is(medium.writes, writes, 'the same again is no change');
    map.forget(IDS[4]!);
    await checkpoint.flush();
    assert.is(await entries(), 3);
    assert.is(medium.writes, writes + 1);
  });

  test('a damaged entry is left out and the rest is there', async () => {
    const medium = new MemoryKvMedium();
    await (await open(medium, filled())).checkpoint.flush();
    medium.crash(99);
    const { kv } = await open(medium, new BlockMap());
    const broken: Buffer[] = [];
    for await (const [key, value] of kv.entries({})) {
      if (broken.length === 2) break;
      const damaged = Buffer.from(value);
      if (broken.length === 0) damaged[100]! ^= 1;
      await kv.batch([{ type: 'put', key, value: broken.length === 0 ? damaged : value.subarray(0, 3) }]);
      broken.push(key);
    }
    await kv.close();
    const map = new BlockMap();
    const second = await open(medium, map);
    await second.checkpoint.load();
    assert.is(map.counts.total, 2);
    assert.match(second.log.lines.map(({ message }) => message).join(), /damaged/);
  });

  test('a full disk is said once, and everything is written when there is room', async () => {
    const medium = new MemoryKvMedium();
    const map = filled();
    const first = await open(medium, map);
    medium.failWrites = new TfsError('DISK_FULL', 'planted');
    await first.checkpoint.flush();
    await first.checkpoint.flush();
    assert.ok(first.checkpoint.failing);
    assert.is(first.log.lines.filter(({ level }) => level === 'error').length, 1);
    medium.failWrites = undefined;
    medium.crash();
    const second = await open(medium, map);
    await second.checkpoint.flush();
    medium.crash(99);
    const loaded = new BlockMap();
    await (await open(medium, loaded)).checkpoint.load();
    assert.is(loaded.counts.total, IDS.length);
  });
});
