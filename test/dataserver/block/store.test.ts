import * as assert from 'uvu/assert';
import type { BlockId, Epoch, FileId } from '../../../common/ids.ts';
import { BlockState } from '../../../common/wire/messages.ts';
import { CONFIGURATION, openStore, put, superblockOf, Writer } from '../../kit/block-world.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import { describe } from '../../kit/suite.ts';

const ALL = { offset: 0, length: 0xffff_ffff };

describe('block store', (test) => {
  test('a record comes back as it was stored, open, sealed and after a restart', async (t) => {
    const disk = new RecordingDisk();
    const store = await openStore(disk);
    const superblock = superblockOf(65_537);
    const id = superblock.block;
    await store.create(superblock, CONFIGURATION);
    const writer = new Writer(superblock);
    const written = [
      ...(await put(store, writer, [Buffer.from('one'), Buffer.alloc(0), Buffer.alloc(3000, 7)])),
      ...(await put(store, writer, [Buffer.alloc(9, 1)])),
    ];
    const check = async (from: typeof store): Promise<void> => {
      for (const { slot, cookie, payload } of written) {
        const found = await from.read(id, slot as number as FileId, cookie, ALL, false);
        assert.equal(found.payload, payload);
        assert.is(found.alias, false);
      }
    };
    await check(store);
    const facts = await store.fence(id, 1 as Epoch);
    assert.is(facts.validLength, writer.offset);
    assert.is(facts.clean, true);
    const seal = await store.seal(id, {
      length: facts.validLength,
      slots: facts.slots,
      digest: facts.digest,
      epoch: 1 as Epoch,
    });
    assert.equal(seal.digest, facts.digest);
    await check(store);
    await store.close();
    const again = await openStore(disk.settled());
    t.defer(() => again.close());
    assert.is(again.info(id as BlockId)?.state, BlockState.SEALED);
    await check(again);
    const report = await again.verify(id);
    assert.equal(report.problems, []);
    assert.equal(report.digest, seal.digest);
  });
});
