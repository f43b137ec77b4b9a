import * as assert from 'uvu/assert';
import { SPARE_FILL_BYTES_PER_SECOND_BUSY } from '../../../common/limits.ts';
import {
  BLOCK_BYTES,
  CONFIGURATION,
  openStore,
  put,
  RushingClock,
  superblockOf,
  Writer,
} from '../../kit/block-world.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import { describe } from '../../kit/suite.ts';

const MIB = 1 << 20;

describe('spare blocks', (test) => {
  test('they are made to the wanted number, full of zeros, and survive a restart', async (t) => {
    const disk = new RecordingDisk();
    const store = await openStore(disk);
    await store.prepareSpares(3, BLOCK_BYTES);
    await store.prepareSpares(3, BLOCK_BYTES);
    assert.is(store.totals().spares, 3);
    assert.is(store.totals().bytes, 3 * BLOCK_BYTES);
    await store.close();
    const found = disk.crashPoint().image(() => false);
    assert.equal(await found.list('spare'), ['0.spare', '1.spare', '2.spare']);
    assert.ok((await found.readFile('spare/0.spare')).equals(Buffer.alloc(BLOCK_BYTES)));
    const again = await openStore(found);
    t.defer(() => again.close());
    assert.is(again.totals().spares, 3);
  });

  test('a new block takes one, and is written without growing', async (t) => {
    const disk = new RecordingDisk();
    const store = await openStore(disk);
    t.defer(() => store.close());
    await store.prepareSpares(1, BLOCK_BYTES);
    const writer = new Writer(superblockOf(70_000));
    await store.create(writer.superblock, CONFIGURATION);
    assert.equal(await disk.list('spare'), []);
    await put(store, writer, [Buffer.alloc(1000)]);
    assert.is((await disk.stat('blocks/70000.0.blk'))?.size, BLOCK_BYTES);
    const growing = new Writer(superblockOf(70_001));
    await store.create(growing.superblock, CONFIGURATION);
    await put(store, growing, [Buffer.alloc(1000)]);
    assert.is((await disk.stat('blocks/70001.0.blk'))?.size, growing.offset);
  });

  test('those of another size, and half-made ones, are removed', async (t) => {
    const disk = new RecordingDisk();
    await disk.mkdir('spare');
    disk.plant('spare/4.spare', Buffer.alloc(100));
    disk.plant('spare/5.tmp', Buffer.alloc(100));
    const store = await openStore(disk);
    t.defer(() => store.close());
    await store.create(superblockOf(70_000), CONFIGURATION);
    assert.equal(await disk.list('spare'), ['4.spare'], 'not taken: it does not fit');
    await store.prepareSpares(1, BLOCK_BYTES);
    assert.equal(await disk.list('spare'), ['6.spare']);
  });

  test('they are filled slowly while appends run, and flat out otherwise', async (t) => {
    const disk = new RecordingDisk();
    const clock = new RushingClock();
    const store = await openStore(disk, { clock });
    t.defer(() => store.close());
    clock.advance(60_000);
    let before = clock.monotonic();
    await store.prepareSpares(1, 8 * MIB);
    assert.is(clock.monotonic() - before, 0);
    const writer = new Writer(superblockOf(70_000));
    await store.create(writer.superblock, CONFIGURATION);
    // Somebody goes on appending all the time.
    disk.onStep = async () => {
      disk.onStep = undefined;
      await put(store, writer, [Buffer.alloc(8)]);
    };
    before = clock.monotonic();
    await store.prepareSpares(2, 8 * MIB);
    const seconds = (clock.monotonic() - before) / 1000;
    const rate = (8 * MIB) / seconds;
    assert.ok(rate <= SPARE_FILL_BYTES_PER_SECOND_BUSY * 1.01, `${rate} bytes a second`);
  });

  test('a full disk has none, and nothing else suffers', async (t) => {
    const disk = new RecordingDisk();
    const store = await openStore(disk);
    t.defer(() => store.close());
    disk.capacityBytes = 3 * BLOCK_BYTES;
    await store.prepareSpares(9, BLOCK_BYTES);
    assert.ok(store.totals().spares <= 3);
    assert.is(store.readOnly, undefined);
    assert.equal(
      (await disk.list('spare')).filter((name) => name.endsWith('.tmp')),
      [],
    );
    await store.create(superblockOf(70_000), CONFIGURATION);
  });

  test('closing the store stops the filling', async () => {
    const disk = new RecordingDisk();
    const store = await openStore(disk);
    const filling = store.prepareSpares(50, 4 * MIB);
    await store.close();
    await filling;
    assert.ok((await disk.list('spare')).length < 50);
    assert.equal(
      (await disk.list('spare')).filter((name) => name.endsWith('.tmp')),
      [],
    );
  });
});
