import { createHash } from 'node:crypto';
import { readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { LeveldownKv } from '../../../common/adapters/leveldown-kv.ts';
import { nodeClock } from '../../../common/adapters/node-clock.ts';
import { NodeDisk } from '../../../common/adapters/node-disk.ts';
import { isTfsError } from '../../../common/errors.ts';
import { type Op, OpType } from '../../../common/format/ops.ts';
import type { BlockId, Epoch, FileId, ServerId } from '../../../common/ids.ts';
import { silentLog } from '../../../common/log.ts';
import { DigestIndex } from '../../../dataserver/digest-index.ts';
import { formatMount, nextIncarnation } from '../../../dataserver/mount.ts';
import { type FsckReport, fsck } from '../../../tools/offline/fsck/fsck.ts';
import {
  CLUSTER,
  CONFIGURATION,
  openStore,
  put,
  SERVER,
  superblockOf,
  Writer,
} from '../../kit/block-world.ts';
import {
  type BuiltBlock,
  buildBlock,
  buildIdx,
  buildOpsFile,
  EXAMPLE_SUPERBLOCK,
  exampleOps,
} from '../../kit/example-block.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

const pictures = [
  Buffer.alloc(100, 'a'),
  Buffer.alloc(70_000, 'b'),
  Buffer.alloc(200, 'c'),
  Buffer.alloc(50, 'd'),
];
const block = buildBlock(pictures);
const BLK = '65537.0.blk';
const OPS = '65537.0.ops';
const IDX = '65537.0.idx';

/** A formatted mount with one sealed block. */
async function mountWith(t: TestContext, files: Record<string, Buffer> = sealed(block)): Promise<string> {
  const path = join(tempDir(t), 'm1');
  await formatMount({ path, clusterUuid: EXAMPLE_SUPERBLOCK.clusterUuid, server: 1 as ServerId });
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(path, 'blocks', name), bytes);
  return path;
}

const sealed = (built: BuiltBlock): Record<string, Buffer> => ({
  [BLK]: built.bytes,
  [OPS]: buildOpsFile(exampleOps(built)),
  [IDX]: buildIdx(built),
});

/** Without its SEAL. */
const unsealedOps = (built: BuiltBlock): Buffer =>
  buildOpsFile(exampleOps(built).filter((op) => op.type !== OpType.SEAL));

const damageOf = (report: FsckReport): string[] =>
  report.steps.flatMap((step) => step.damage.map((line) => `${step.name}: ${line}`));
const notesOf = (report: FsckReport): string =>
  report.steps.flatMap((step) => step.notes.map((line) => `${step.name}: ${line}`)).join('\n');

/** Name, size, time and contents of everything below a directory. */
async function imageOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for (const entry of (await readdir(path, { recursive: true, withFileTypes: true })).sort((a, b) =>
    join(a.parentPath, a.name).localeCompare(join(b.parentPath, b.name)),
  )) {
    const file = join(entry.parentPath, entry.name);
    hash.update(`${file} ${(await stat(file)).mtimeMs}`);
    if (entry.isFile()) hash.update(await readFile(file));
  }
  return hash.digest('hex');
}

async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at]! ^= 1;
  await writeFile(path, bytes);
}

describe('fsck', (test) => {
  test('a sound mount is clean, step by step, and is not touched', async (t) => {
    const path = await mountWith(t);
    await nextIncarnation(await NodeDisk.open(path));
    const before = await imageOf(path);
    const seen: string[] = [];
    const report = await fsck({ path, onStep: (step) => seen.push(step.name) });
    assert.equal(damageOf(report), []);
    assert.ok(report.clean);
    const names = ['mount', 'files', 'superblocks', 'ops logs', 'records', 'index files', 'SHA-1 index'];
    assert.equal(seen, names);
    assert.equal(
      report.steps.map(({ checked }) => checked),
      [
        '2 files',
        '3 files, 1 blocks',
        '1 superblocks',
        '1 logs, 6 operations',
        '4 records, 0.1 MiB',
        '1 index files',
        'nothing',
      ],
    );
    assert.is(report.server, 1);
    assert.is(await imageOf(path), before);
  });

  test('a mount that a block store has written is clean, sealed and unsealed blocks', async (t) => {
    const path = join(tempDir(t), 'm1');
    await formatMount({ path, clusterUuid: CLUSTER, server: SERVER });
    const store = await openStore(await NodeDisk.open(path));
    const random = new SeededRandom(3);
    for (const id of [65_537, 65_538]) {
      const writer = new Writer(superblockOf(id), random);
      await store.create(writer.superblock, CONFIGURATION);
      for (let i = 0; i < 5; i++)
        await put(store, writer, [random.bytes(random.below(4000)), random.bytes(100)]);
      if (id === 65_538) continue;
      const { validLength, slots, digest } = await store.fence(id as BlockId, 2 as Epoch);
      await store.seal(id as BlockId, { length: validLength, slots, digest, epoch: 2 as Epoch });
    }
    await store.close();
    const report = await fsck({ path });
    assert.equal(damageOf(report), []);
    assert.match(notesOf(report), '65538.0.blk: waits for its seal; 10 records');
    assert.match(report.steps[5]!.checked, '1 index files');
  });

  test('what was sealed as lost is told, and is no damage; anything else in that block is', async (t) => {
    const path = join(tempDir(t), 'm1');
    await formatMount({ path, clusterUuid: CLUSTER, server: SERVER });
    const disk = await NodeDisk.open(path);
    const writer = new Writer(superblockOf(65_537), new SeededRandom(3));
    const id = 65_537 as BlockId;
    const first = await openStore(disk);
    await first.create(writer.superblock, CONFIGURATION);
    for (let i = 0; i < 5; i++) await put(first, writer, [Buffer.alloc(300, i)]);
    await first.close();
    const [, second, third] = writer.written;
    await flip(join(path, 'blocks', BLK), second!.end - 50);
    const store = await openStore(disk);
    const { validLength: length, slots } = await store.fence(id, 2 as Epoch);
    const order = { length, slots, digest: undefined, epoch: 2 as Epoch, mayLose: true };
    assert.is((await store.seal(id, order)).lost, 1);
    await store.close();
    const report = await fsck({ path });
    assert.equal(damageOf(report), []);
    assert.match(notesOf(report), /1 records are lost/);
    await flip(join(path, 'blocks', BLK), third!.end - 50);
    assert.ok(damageOf(await fsck({ path })).some((line) => /slot 2/.test(line)));
  });

  test('one flipped byte of a picture or a header is found', async (t) => {
    const [first, second] = block.records;
    for (const [at, what] of [
      [first!.offset + 10, 'do not verify'],
      [second!.offset + 10_000, 'slot 1 at'],
      [block.records[3]!.offset + 81, 'slot 3 at'],
    ] as const) {
      const path = await mountWith(t);
      await flip(join(path, 'blocks', BLK), at);
      const report = await fsck({ path });
      assert.not.ok(report.clean);
      assert.match(damageOf(report).join('\n'), what);
      assert.ok(damageOf(report).every((line) => line.startsWith('records: 65537.0.blk')));
    }
  });

  test('a sealed block that was cut short, or is another one than was sealed, is found', async (t) => {
    const cut = await mountWith(t);
    await truncate(join(cut, 'blocks', BLK), block.records[3]!.offset);
    assert.match(damageOf(await fsck({ path: cut })).join('\n'), 'do not verify (1 records from slot 3)');
    const other = buildBlock(pictures, { cookie: (slot) => slot });
    const path = await mountWith(t, { ...sealed(block), [BLK]: other.bytes });
    assert.match(damageOf(await fsck({ path })).join('\n'), 'the digest is another one');
  });

  test('what follows a seal is no damage, nor is a torn end of an unsealed block', async (t) => {
    const room = await mountWith(t, {
      ...sealed(block),
      [BLK]: Buffer.concat([block.bytes, Buffer.alloc(500)]),
    });
    const report = await fsck({ path: room });
    assert.equal(damageOf(report), []);
    assert.match(notesOf(report), '500 bytes behind the seal');
    const torn = await mountWith(t, { [BLK]: block.bytes.subarray(0, -8), [OPS]: unsealedOps(block) });
    assert.equal(damageOf(await fsck({ path: torn })), []);
  });

  test('a superblock that is damaged or under a wrong name is found', async (t) => {
    const path = await mountWith(t);
    await flip(join(path, 'blocks', BLK), 100);
    assert.match(
      damageOf(await fsck({ path })).join('\n'),
      'superblocks: 65537.0.blk: superblock checksum mismatch',
    );
    const misnamed = await mountWith(t, { '70000.0.blk': block.bytes, '70000.0.ops': unsealedOps(block) });
    assert.match(damageOf(await fsck({ path: misnamed })).join('\n'), 'under a wrong name');
    const foreign = buildBlock(pictures, {
      superblock: { ...EXAMPLE_SUPERBLOCK, clusterUuid: 'ff'.repeat(16) },
    });
    const mixed = await mountWith(t, { [BLK]: foreign.bytes, [OPS]: unsealedOps(block) });
    assert.match(damageOf(await fsck({ path: mixed })).join('\n'), 'belongs to cluster ffff');
  });

  test('an ops log that is lost, damaged, of another block or with a gap is found; a torn end is not damage', async (t) => {
    const ops = exampleOps(block);
    const log = buildOpsFile(ops);
    const damaged = Buffer.from(log);
    damaged[150]! ^= 1;
    const gap = buildOpsFile(ops.filter((op) => op.seq !== 3));
    const beyond: Op = {
      ...ops[4]!,
      type: OpType.DELETE,
      fileId: 99 as FileId,
      seq: 6,
      opId: Buffer.alloc(16, 3),
    };
    const foreign = buildOpsFile(ops, { ...EXAMPLE_SUPERBLOCK, salt: Buffer.alloc(16) });
    for (const [bytes, what] of [
      [undefined, 'has no ops log'],
      [damaged, 'damaged at 128'],
      [gap, 'operation 4 follows operation 2'],
      [foreign, 'the ops log of another block'],
      [Buffer.alloc(64), 'not an ops log'],
      [buildOpsFile([...ops, beyond]), 'names slot 99'],
    ] as const) {
      const path = await mountWith(t, {
        [BLK]: block.bytes,
        ...(bytes === undefined ? {} : { [OPS]: bytes }),
      });
      assert.match(damageOf(await fsck({ path })).join('\n'), what);
    }
    const torn = await mountWith(t, { ...sealed(block), [OPS]: Buffer.concat([log, log.subarray(64, 100)]) });
    const report = await fsck({ path: torn });
    assert.equal(damageOf(report), []);
    assert.match(notesOf(report), 'never acknowledged');
  });

  test('an index file that does not agree with its block is found; a missing one is not damage', async (t) => {
    const other = buildBlock(pictures.toReversed());
    const shorter = buildBlock(pictures.slice(0, 3));
    const torn = buildIdx(block).subarray(0, 100);
    for (const [idx, what] of [
      [buildIdx(other), 'not those of the records'],
      [buildIdx(shorter), 'it is of 3 slots'],
      [torn, 'cut'],
      [buildIdx({ ...block, superblock: { ...block.superblock, session: 5 as never } }), 'of another block'],
    ] as const) {
      const path = await mountWith(t, { ...sealed(block), [IDX]: idx });
      const damage = damageOf(await fsck({ path }));
      assert.is(damage.length, 1);
      assert.match(damage[0]!, `index files: ${IDX}`);
      assert.match(damage[0]!, what);
    }
    const { [IDX]: _, ...without } = sealed(block);
    const report = await fsck({ path: await mountWith(t, without) });
    assert.ok(report.clean);
    assert.match(notesOf(report), '1 sealed blocks have no index file');
  });

  test('the SHA-1 index is compared with the records, without being opened where it lies', async (t) => {
    const path = await mountWith(t);
    const directory = join(path, 'kv');
    const write = async (
      change: (index: DigestIndex, kv: LeveldownKv) => Promise<void> | void,
    ): Promise<void> => {
      const kv = await LeveldownKv.open({ directory });
      const index = new DigestIndex({ kv, clock: nodeClock, log: silentLog });
      await change(index, kv);
      await index.flush();
      await kv.close();
    };
    const placeOf = (slot: number) => ({ block: 65_537 as BlockId, fileId: slot as FileId });
    await write((index) => {
      for (const { header } of block.records) {
        index.addContent(header.sha1, placeOf(header.slot));
        index.addOp(header.opId, placeOf(header.slot));
      }
    });
    await write((index) => index.markBlock(65_537 as BlockId, 0));
    const before = await imageOf(path);
    const good = await fsck({ path });
    assert.equal(damageOf(good), []);
    assert.match(good.steps[6]!.checked, '9 entries');
    assert.is(await imageOf(path), before);

    await write((index) => {
      index.addContent(block.records[0]!.header.sha1, placeOf(1));
      index.addContent(Buffer.alloc(20, 1), placeOf(77));
      index.addContent(Buffer.alloc(20, 2), { ...placeOf(0), block: 9 as BlockId });
    });
    const misled = await fsck({ path });
    assert.ok(misled.clean);
    assert.match(notesOf(misled), '3 entries of the SHA-1 index lead to no such record');

    await write((_, kv) =>
      kv.batch([{ type: 'put', key: Buffer.from('s'.repeat(21)), value: Buffer.alloc(12, 7) }]),
    );
    assert.match(damageOf(await fsck({ path })).join('\n'), '1 entries of the SHA-1 index do not verify');

    await rm(join(directory, 'CURRENT'));
    assert.ok((await fsck({ path })).clean);
    await writeFile(join(directory, 'CURRENT'), 'MANIFEST-999999\n');
    assert.match(damageOf(await fsck({ path })).join('\n'), 'cannot be read');
  });

  test('a mount that is being served is checked as far as that goes', async (t) => {
    const path = await mountWith(t);
    const kv = await LeveldownKv.open({ directory: join(path, 'kv') });
    t.defer(() => kv.close());
    const report = await fsck({ path });
    assert.ok(report.clean);
    assert.match(notesOf(report), 'serving it now');
    assert.match(notesOf(report), 'its DataServer has it open');
  });

  test('small files of the mount that are damaged are found', async (t) => {
    const path = await mountWith(t);
    await writeFile(join(path, 'promise.tfs'), '00000000 {}\n');
    assert.match(damageOf(await fsck({ path })).join('\n'), 'promise.tfs is damaged');
    await writeFile(join(path, 'drop.log'), 'garbage');
    assert.match(damageOf(await fsck({ path })).join('\n'), 'drop.log: ');
  });

  test('files that belong nowhere are told', async (t) => {
    const path = await mountWith(t, {
      ...sealed(block),
      'x.txt': Buffer.alloc(1),
      '9.0.ops': Buffer.alloc(1),
    });
    await writeFile(join(path, 'surplus', 'some'), 'x');
    const report = await fsck({ path });
    assert.ok(report.clean);
    for (const what of ['x.txt', 'block 9 has no block file', '1 files of cut-off records'])
      assert.match(notesOf(report), what);
  });

  test('what is no mount cannot be checked', async (t) => {
    const empty = tempDir(t);
    for (const path of [empty, join(empty, 'absent')]) {
      const error: unknown = await fsck({ path }).catch((e: unknown) => e);
      assert.ok(isTfsError(error, 'REFUSED'));
    }
    const path = await mountWith(t);
    await writeFile(join(path, 'mount.tfs'), 'garbage');
    assert.ok(isTfsError(await fsck({ path }).catch((e: unknown) => e)));
  });
});
