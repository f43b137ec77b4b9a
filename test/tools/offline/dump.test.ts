import * as assert from 'uvu/assert';
import { emptyOpsState, foldOp, type OpsState, readOpsFile } from '../../../common/format/ops.ts';
import { sourceOfBuffer } from '../../../common/format/source.ts';
import { decodeName } from '../../../common/name.ts';
import { type DumpLine, dumpBlock, dumpIdx, dumpOps } from '../../../tools/offline/dump.ts';
import { dumpDrops } from '../../../tools/offline/dump-drops.ts';
import { buildIdx, buildOpsFile, exampleBlock, exampleOps } from '../../kit/example-block.ts';
import { buildDropLog } from '../../kit/example-drops.ts';
import { unwrap } from '../../kit/formats.ts';
import { describe } from '../../kit/suite.ts';

const block = exampleBlock();
const stateOf = (): OpsState => {
  const state = emptyOpsState();
  for (const op of exampleOps(block)) foldOp(state, op);
  return state;
};

async function dump(bytes: Buffer, ops?: OpsState): Promise<{ lines: DumpLine[]; sound: boolean }> {
  const lines: DumpLine[] = [];
  const sound = await dumpBlock({
    source: sourceOfBuffer(bytes),
    superblock: block.superblock,
    ops,
    clusterDigit: 2,
    checkPayloads: true,
    emit: (line) => void lines.push(line),
  });
  return { lines, sound };
}
const values = (lines: readonly DumpLine[], kind: string) =>
  lines.map(({ value }) => value).filter((value) => value.kind === kind);

describe('dump', (test) => {
  test('shows every record of a block, and where it ends', async () => {
    const { lines, sound } = await dump(block.bytes, stateOf());
    assert.ok(sound);
    assert.equal(
      lines.map(({ value }) => value.kind),
      ['superblock', 'record', 'record', 'record', 'end'],
    );
    values(lines, 'record').forEach((value, slot) => {
      const { header, offset } = block.records[slot]!;
      assert.is(value['offset'], offset);
      assert.is(value['sha1'], header.sha1.toString('hex'));
      const name = decodeName(String(value['name']))!;
      assert.equal([name.clusterDigit, name.fileId, name.cookie], [2, slot, header.cookie]);
      assert.equal(value['flags'], slot === 1 ? ['deleted'] : []);
      assert.is(value['payload'], 'ok');
    });
    const [end] = values(lines, 'end');
    assert.is(end!['validLength'], block.length);
    assert.is(end!['digest'], block.digest.toString('hex'));
    assert.is(end!['sealAgrees'], true);
    assert.ok(lines.every(({ text }) => text.length > 0));
  });

  test('says what is damaged and what is missing', async () => {
    const bytes = Buffer.from(block.bytes);
    bytes[block.records[0]!.offset + 100]! ^= 1;
    bytes[block.records[1]!.offset + 9]! ^= 1;
    const { lines, sound } = await dump(bytes);
    assert.not.ok(sound);
    assert.is(values(lines, 'record')[0]!['payload'], 'DAMAGED');
    assert.equal(values(lines, 'hole'), [
      {
        kind: 'hole',
        start: block.records[0]!.offset,
        end: block.records[2]!.offset,
        firstSlot: 0,
        slots: 2,
      },
    ]);
    assert.not.ok((await dump(block.bytes.subarray(0, -8), stateOf())).sound, 'shorter than its seal');
    assert.ok((await dump(block.bytes.subarray(0, -8))).sound, 'a torn end');
  });

  test('shows every operation, and those behind damage', () => {
    const log = buildOpsFile(exampleOps(block));
    const lines: DumpLine[] = [];
    assert.ok(dumpOps('x.ops', unwrap(readOpsFile(log)), (line) => void lines.push(line)));
    assert.equal(
      values(lines, 'op').map((value) => value['type']),
      ['CFG', 'HIDE', 'REVEAL', 'ALIAS', 'DELETE', 'SEAL'],
    );
    log[150]! ^= 1;
    const damaged: DumpLine[] = [];
    assert.not.ok(dumpOps('x.ops', unwrap(readOpsFile(log)), (line) => void damaged.push(line)));
    assert.is(values(damaged, 'op').length, 5);
    assert.match(damaged.at(-1)!.text, 'behind the damage');
  });

  test('shows an index', () => {
    const lines: DumpLine[] = [];
    assert.ok(dumpIdx('x.idx', buildIdx(block), (line) => void lines.push(line)));
    assert.equal(
      values(lines, 'idx-slot').map((value) => [value['offset'], value['sha1']]),
      block.records.map(({ offset, header }) => [offset, header.sha1.toString('hex')]),
    );
    assert.not.ok(dumpIdx('x.idx', Buffer.alloc(64), () => undefined));
  });

  test('a drop log entry by entry', () => {
    const lines: DumpLine[] = [];
    assert.ok(dumpDrops('drop.log', buildDropLog(), (line) => void lines.push(line)));
    assert.equal(
      values(lines, 'drop').map(({ block, reason, at }) => [block, reason, at]),
      [
        [65_537, 'excess', '2023-11-14T22:13:20.000Z'],
        [65_537, 'returned', '2023-11-14T22:18:20.000Z'],
      ],
    );
    assert.not.ok(dumpDrops('drop.log', Buffer.alloc(64), () => undefined));
  });
});
