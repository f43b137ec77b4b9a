import { randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { blockId, fileId } from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import { DigestIndex } from '../../dataserver/digest-index.ts';
import { MemoryKvMedium } from '../kit/memory-kv.ts';
import { describe } from '../kit/suite.ts';

const place = (n: number) => ({ block: blockId(n), fileId: fileId(n * 2) });

describe('digest index', (test) => {
  test('what was added is found at once, and after it went to the store', async () => {
    const kv = await new MemoryKvMedium().open();
    const index = new DigestIndex({ kv, clock: nodeClock, log: silentLog });
    const [sha1, opId] = [randomBytes(20), randomBytes(16)];
    index.add(sha1, opId, place(5), false);
    index.addOp(opId, place(5));
    assert.equal(await index.lookup(sha1, randomBytes(16)), { byContent: place(5), byOp: undefined });
    assert.equal((await index.lookup(randomBytes(20), opId)).byOp, place(5));
    await index.flush();
    const later = new DigestIndex({ kv, clock: nodeClock, log: silentLog });
    assert.equal(await later.lookup(sha1, opId), { byContent: place(5), byOp: place(5) });
    await later.drop(sha1);
    assert.is((await later.lookup(sha1, opId)).byContent, undefined);
  });

  test('a block is vouched for only once everything added before is stored', async () => {
    const kv = await new MemoryKvMedium().open();
    const index = new DigestIndex({ kv, clock: nodeClock, log: silentLog });
    const shas = Array.from({ length: 100 }, () => randomBytes(20));
    for (const [i, sha1] of shas.entries()) index.addContent(sha1, place(i + 1));
    assert.is(await index.holdsBlock(blockId(9), 0), false);
    await index.markBlock(blockId(9), 0);
    const later = new DigestIndex({ kv, clock: nodeClock, log: silentLog });
    assert.is(await later.holdsBlock(blockId(9), 0), true);
    assert.is(await later.holdsBlock(blockId(9), 1), false);
    for (const [i, sha1] of shas.entries()) {
      assert.equal((await later.lookup(sha1, randomBytes(16))).byContent, place(i + 1));
    }
  });

  test('a value that rotted is no answer', async () => {
    const kv = await new MemoryKvMedium().open();
    const index = new DigestIndex({ kv, clock: nodeClock, log: silentLog });
    const sha1 = randomBytes(20);
    index.addContent(sha1, place(5));
    await index.flush();
    for await (const [key, value] of kv.entries({})) {
      value[2]! ^= 1;
      await kv.batch([{ type: 'put', key, value }]);
    }
    assert.is((await index.lookup(sha1, randomBytes(16))).byContent, undefined);
  });

  test('a failed write turns deduplication off and nothing else', async () => {
    const kv = await new MemoryKvMedium().open();
    const index = new DigestIndex({ kv, clock: nodeClock, log: silentLog });
    kv.batch = () => Promise.reject(new Error('disk full'));
    index.addContent(randomBytes(20), place(1));
    await index.flush();
    assert.is(index.enabled, false);
    index.addContent(randomBytes(20), place(2));
    assert.equal(await index.lookup(randomBytes(20), randomBytes(16)), {
      byContent: undefined,
      byOp: undefined,
    });
  });

  test('the filter never denies a stored content, also after a start, and denies most others', async () => {
    const kv = await new MemoryKvMedium().open();
    const index = new DigestIndex({ kv, clock: nodeClock, log: silentLog });
    const shas = Array.from({ length: 3000 }, () => randomBytes(20));
    for (const sha1 of shas) index.addContent(sha1, place(1));
    await index.flush();
    const later = new DigestIndex({ kv, clock: nodeClock, log: silentLog });
    assert.ok(later.mayHold(randomBytes(20)), 'not filled yet: it proves nothing');
    await later.fillFilter();
    for (const sha1 of shas) assert.ok(later.mayHold(sha1));
    const wrong = Array.from({ length: 10_000 }, () => later.mayHold(randomBytes(20))).filter(Boolean).length;
    assert.ok(wrong < 1000, `${wrong} of 10000 unknown contents may be there`);
  });
});
