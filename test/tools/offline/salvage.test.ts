import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type Op, OpType } from '../../../common/format/ops.ts';
import type { FileId } from '../../../common/ids.ts';
import { WALK_BUFFER_BYTES } from '../../../common/limits.ts';
import { decodeName } from '../../../common/name.ts';
import { MediaType } from '../../../common/wire/messages.ts';
import { findOpsLog, openBlockFile } from '../../../tools/offline/block-files.ts';
import { type SalvageOptions, type SalvageReport, salvage } from '../../../tools/offline/salvage.ts';
import { type BuiltBlock, buildBlock, buildOpsFile, exampleOps } from '../../kit/example-block.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

const payloads = [
  Buffer.alloc(100, 'a'),
  Buffer.alloc(70_000, 'b'),
  Buffer.alloc(2 * WALK_BUFFER_BYTES + 5, 'c'),
  Buffer.alloc(50, 'd'),
];
const block = buildBlock(payloads, { mediaType: () => MediaType.JPEG });

interface Salvaged {
  readonly report: SalvageReport;
  /** File name -> SHA-1 of what is in it. */
  readonly files: Map<string, string>;
  readonly directory: string;
}

/** Writes the files, salvages them as the command does, and reads back what came out. */
async function run(
  t: TestContext,
  files: Record<string, Buffer>,
  options: Partial<SalvageOptions> = {},
): Promise<Salvaged> {
  const home = tempDir(t);
  const blocks = join(home, 'blocks');
  await mkdir(blocks);
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(blocks, name), bytes);
  const path = join(blocks, '65537.0.blk');
  const { source, superblock } = await openBlockFile(path, { tolerant: true });
  t.defer(() => source.close());
  const ops = superblock && (await findOpsLog(path, superblock));
  const directory = options.outputDirectory ?? join(home, 'out');
  const report = await salvage({
    source,
    superblock,
    block: block.superblock.block,
    ops: typeof ops === 'string' ? undefined : ops?.state,
    outputDirectory: directory,
    clusterDigit: 3,
    includeDeleted: false,
    keepDamaged: false,
    ...options,
  });
  const found = new Map<string, string>();
  for (const name of await readdir(directory))
    found.set(
      name,
      createHash('sha1')
        .update(await readFile(join(directory, name)))
        .digest('hex'),
    );
  return { report, files: found, directory };
}

const sha1 = (payload: Buffer): string => createHash('sha1').update(payload).digest('hex');

/** SHA-1 by slot of what was salvaged under the record's own name. */
function slotsOf(files: Map<string, string>, built: BuiltBlock = block): (string | undefined)[] {
  const slots: (string | undefined)[] = built.records.map(() => undefined);
  for (const [file, hash] of files) {
    const name = decodeName(file)!;
    assert.is(name.clusterDigit, 3);
    assert.is(name.block, built.superblock.block);
    const record = built.records[name.fileId];
    if (record !== undefined && record.header.cookie === name.cookie) slots[name.fileId] = hash;
  }
  return slots;
}

describe('salvage', (test) => {
  test('every picture comes out of one block file alone, under its name', async (t) => {
    const { report, files, directory } = await run(t, { '65537.0.blk': block.bytes });
    assert.equal(slotsOf(files), payloads.map(sha1));
    assert.is(files.size, 4);
    assert.ok([...files.keys()].every((name) => name.endsWith('.jpg')));
    assert.is(report.extracted, 4);
    assert.is(
      report.bytes,
      payloads.reduce((sum, payload) => sum + payload.length, 0),
    );
    assert.is(report.damaged + report.holes + report.deleted, 0);
    const [name] = [...files.keys()].filter((file) => decodeName(file)!.fileId === 0);
    assert.is((await stat(join(directory, name!))).mtimeMs, block.records[0]!.header.mtimeMs);
  });

  test('preallocated room, and a torn end, are no damage', async (t) => {
    const bytes = Buffer.concat([block.bytes.subarray(0, -8), Buffer.alloc(100_000)]);
    bytes.fill(0, block.records[3]!.offset + 90);
    const { report, files } = await run(t, { '65537.0.blk': bytes });
    assert.equal(slotsOf(files), [...payloads.slice(0, 3).map(sha1), undefined]);
    assert.is(report.holes, 0);
    assert.is(report.damaged, 1);
  });

  test('damage is skipped and counted, and everything else comes out', async (t) => {
    const bytes = Buffer.from(block.bytes);
    bytes[block.records[0]!.offset + 20]! ^= 1;
    bytes[block.records[2]!.offset + WALK_BUFFER_BYTES]! ^= 1;
    const { report, files } = await run(t, { '65537.0.blk': bytes });
    assert.equal(slotsOf(files), [undefined, sha1(payloads[1]!), undefined, sha1(payloads[3]!)]);
    assert.is(report.extracted, 2);
    assert.is(report.damaged, 1);
    assert.is(report.holes, 2);
    const kept = await run(t, { '65537.0.blk': bytes }, { keepDamaged: true });
    const damaged = [...kept.files.keys()].filter((name) => name.includes('.damaged'));
    assert.is(damaged.length, 1);
    assert.ok(damaged[0]!.endsWith('.damaged.jpg'));
    assert.is((await stat(join(kept.directory, damaged[0]!))).size, payloads[2]!.length);
  });

  test('with a lost superblock pictures are found by their SHA-1', async (t) => {
    const bytes = Buffer.from(block.bytes);
    bytes.fill(0, 0, 4096);
    const { report, files } = await run(t, { '65537.0.blk': bytes });
    assert.equal(slotsOf(files), payloads.map(sha1));
    assert.is(report.holes, 0);
    bytes[block.records[1]!.offset + 5000]! ^= 1;
    const damaged = await run(t, { '65537.0.blk': bytes });
    assert.equal(slotsOf(damaged.files), [sha1(payloads[0]!), undefined, ...payloads.slice(2).map(sha1)]);
    assert.is(damaged.report.holes, 1);
  });

  test('deleted pictures stay out if the ops log says so, hidden ones and second names come', async (t) => {
    // Slot 1 is deleted; slot 0 has a second name.
    const ops = exampleOps(block);
    const hide: Op = {
      ...ops[1]!,
      type: OpType.HIDE,
      fileId: 2 as FileId,
      seq: 6,
      opId: Buffer.alloc(16, 9),
    };
    const files = { '65537.0.blk': block.bytes, '65537.0.ops': buildOpsFile([...ops, hide]) };
    const { report, files: out } = await run(t, files);
    assert.equal(slotsOf(out), [sha1(payloads[0]!), undefined, ...payloads.slice(2).map(sha1)]);
    assert.is(report.deleted, 1);
    assert.is(report.secondNames, 1);
    assert.is(out.size, 4);
    const all = await run(t, files, { includeDeleted: true });
    assert.equal(slotsOf(all.files), payloads.map(sha1));
    assert.is(all.report.deleted, 0);
  });

  test('a picture whose first name was deleted comes out under its second', async (t) => {
    const ops = exampleOps(block);
    const remove: Op = {
      ...ops[4]!,
      type: OpType.DELETE,
      fileId: 0 as FileId,
      seq: 6,
      opId: Buffer.alloc(16, 9),
    };
    const log = buildOpsFile([...ops, remove]);
    const { report, files } = await run(t, { '65537.0.blk': block.bytes, '65537.0.ops': log });
    assert.is(slotsOf(files)[0], undefined);
    const second = [...files].filter(([name]) => decodeName(name)!.fileId === 0x8000_002a);
    assert.equal(
      second.map(([, hash]) => hash),
      [sha1(payloads[0]!)],
    );
    assert.is(report.secondNames, 0);
    assert.is(report.extracted, 3);
  });

  test('what a seal says was there and is not is counted', async (t) => {
    const cut = block.bytes.subarray(0, block.records[3]!.offset);
    const ops = buildOpsFile(exampleOps(block));
    const { report } = await run(t, { '65537.0.blk': cut, '65537.0.ops': ops });
    assert.is(report.holes, 1);
  });

  test('an ops log of another block, or one that does not read, is not used', async (t) => {
    const other = buildOpsFile(exampleOps(block), { ...block.superblock, salt: Buffer.alloc(16, 1) });
    for (const log of [other, Buffer.alloc(10)]) {
      const { report } = await run(t, { '65537.0.blk': block.bytes, '65537.0.ops': log });
      assert.is(report.extracted, 4);
    }
  });

  test('the newest ops log counts, and a delete behind damage in it too', async (t) => {
    const ops = exampleOps(block);
    const old = buildOpsFile(ops.slice(0, 1));
    const log = buildOpsFile(ops, block.superblock, 2);
    log[150]! ^= 1;
    const { report } = await run(t, { '65537.0.blk': block.bytes, '65537.0.ops': old, '65537.2.ops': log });
    assert.is(report.deleted, 1);
  });

  test('running it again changes nothing', async (t) => {
    const first = await run(t, { '65537.0.blk': block.bytes });
    const again = await run(t, { '65537.0.blk': block.bytes }, { outputDirectory: first.directory });
    assert.is(again.report.extracted, 4);
    assert.equal((await readdir(first.directory)).sort(), [...first.files.keys()].sort());
  });
});
