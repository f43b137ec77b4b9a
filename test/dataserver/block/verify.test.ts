import * as assert from 'uvu/assert';
import type { TfsError } from '../../../common/errors.ts';
import type { BlockId } from '../../../common/ids.ts';
import { BlockFlag, BlockState } from '../../../common/wire/messages.ts';
import { BLOCK, BLOCK_PATH, IDX_PATH, OPS_PATH, ReplicaWorld } from '../../kit/replica-world.ts';
import { describe } from '../../kit/suite.ts';

const MIB = 1 << 20;
/** With and without padding, with a chunk table, larger than what a walk reads at once. */
const SIZES = [100, 8, 1, 70_001, 33, MIB + 5, 64];
const BLOCK_BYTES = 4 * MIB;

/** What a line says is damaged. */
function spanOf(problem: string): { start: number; end: number } {
  const found = /^bytes (\d+) to (\d+)/.exec(problem);
  assert.ok(found !== null, problem);
  return { start: Number(found![1]), end: Number(found![2]) };
}

describe('verification of a replica', (test) => {
  for (const sealed of [false, true]) {
    const state = sealed ? 'a sealed block' : 'an OPEN block';

    test(`${state} that is whole has no problems and stays trusted`, async (t) => {
      const world = await ReplicaWorld.open(t, SIZES, { replicas: 1, blockBytes: BLOCK_BYTES });
      const seal = sealed ? await world.seal() : undefined;
      const { store } = world.replicas[0]!;
      const report = await store.verify(BLOCK);
      assert.equal(report.problems, []);
      assert.is(report.records, SIZES.length);
      assert.is(report.bytes, world.writer.offset);
      if (seal !== undefined) assert.ok(report.digest!.equals(seal.digest));
      assert.is(store.info(BLOCK)!.flags, 0);
    });

    test(`${state}: any one changed byte is found, in the right place, and said once`, async (t) => {
      const world = await ReplicaWorld.open(t, [100, 8, 1, 70_001, 33, 64], { replicas: 1, blockBytes: MIB });
      if (sealed) await world.seal();
      const { store } = world.replicas[0]!;
      const end = world.writer.offset;
      for (
        let offset = 0;
        offset < end;
        offset += offset < 4096 || (offset > 5000 && offset < 74_000) ? 211 : 1
      ) {
        world.flip(0, offset);
        const { problems } = await store.verify(BLOCK);
        assert.is(problems.length, 1, `offset ${offset}: ${problems.join('; ')}`);
        const span = spanOf(problems[0]!);
        assert.ok(span.start <= offset && offset < span.end, `offset ${offset}: ${problems[0]}`);
        world.flip(0, offset);
      }
      assert.equal((await store.verify(BLOCK)).problems, []);
      assert.is(store.info(BLOCK)!.flags, BlockFlag.SUSPECT, 'until it is repaired');
    });

    test(`${state} whose file was cut, or is gone`, async (t) => {
      const world = await ReplicaWorld.open(t, SIZES, { replicas: 1, blockBytes: BLOCK_BYTES });
      if (sealed) await world.seal();
      const { disk, store } = world.replicas[0]!;
      const whole = await disk.readFile(BLOCK_PATH);
      const cut = world.startOf(4) + 10;
      disk.corrupt(BLOCK_PATH, (bytes) => bytes.subarray(0, cut));
      const { problems } = await store.verify(BLOCK);
      assert.match(problems[0]!, `bytes ${cut} to ${world.writer.offset}: the file ends before them`);
      for (const slot of [4, 5, 6])
        assert.ok(
          problems.some((line) => line.includes(`slot ${slot}`)),
          problems.join(),
        );
      disk.corrupt(BLOCK_PATH, () => whole);
      assert.equal((await store.verify(BLOCK)).problems, []);
      await disk.unlink(BLOCK_PATH);
      assert.equal((await store.verify(BLOCK)).problems, ['its file is gone']);
    });
  }

  test('every damaged record is told, each once', async (t) => {
    const world = await ReplicaWorld.open(
      t,
      Array.from({ length: 40 }, (_, i) => 50 + i),
      { replicas: 1 },
    );
    await world.seal();
    const { store } = world.replicas[0]!;
    const damaged = [0, 3, 4, 5, 17, 39];
    for (const slot of damaged) world.flip(0, world.startOf(slot) + (slot % 2 === 0 ? 20 : 90));
    const { problems, digest } = await store.verify(BLOCK);
    assert.is(digest, undefined);
    assert.equal(
      problems.map((line) => spanOf(line).start).sort((a, b) => a - b),
      damaged.map((slot) => world.startOf(slot)),
    );
  });

  test('sectors that the disk cannot read are told, with the records in them', async (t) => {
    const world = await ReplicaWorld.open(t, [6000, 6000, 6000], { replicas: 1 });
    await world.seal();
    const { disk, store } = world.replicas[0]!;
    await store.verify(BLOCK);
    disk.spoil(BLOCK_PATH, 12_288, 16_384);
    const { problems, records } = await store.verify(BLOCK);
    assert.is(records, 2, 'the third one begins in a sector that is gone');
    assert.ok(problems.includes('bytes 12288 to 16384: the disk cannot read them'), problems.join('; '));
    assert.is(problems.filter((line) => /slot [12]\)/.test(line)).length, 2);
    assert.is(store.info(BLOCK)!.flags, BlockFlag.SUSPECT);
    assert.is(store.readOnly, undefined);
  });

  test('a damaged ops log is told; a damaged index file is written again', async (t) => {
    const world = await ReplicaWorld.open(t, [100, 200], { replicas: 1 });
    await world.seal();
    const { disk, store } = world.replicas[0]!;
    const index = await disk.readFile(IDX_PATH);
    world.flip(0, 70, IDX_PATH);
    assert.equal((await store.verify(BLOCK)).problems, []);
    assert.ok((await disk.readFile(IDX_PATH)).equals(index));
    world.flip(0, 80, OPS_PATH);
    const { problems } = await store.verify(BLOCK);
    assert.is(problems.length, 1);
    assert.match(problems[0]!, /ops log/);
    assert.is(store.info(BLOCK)!.flags, BlockFlag.SUSPECT);
  });

  test('the owner of the store hears of damage once, and of the block as changed', async (t) => {
    const corrupt: [BlockId, TfsError][] = [];
    const changed: BlockId[] = [];
    const events = {
      corrupt: (block: BlockId, error: TfsError) => void corrupt.push([block, error]),
      changed: (block: BlockId) => void changed.push(block),
    };
    const world = await ReplicaWorld.open(t, [100, 200], { replicas: 1, events });
    await world.seal();
    const { store } = world.replicas[0]!;
    changed.length = 0;
    world.flip(0, 4096 + 90);
    world.flip(0, 10);
    await store.verify(BLOCK);
    await store.verify(BLOCK);
    assert.is(corrupt.length, 1);
    assert.match(corrupt[0]![1].message, 'and 1 more');
    assert.equal(changed, [BLOCK]);
  });

  test('appends go on while an OPEN block is read', async (t) => {
    const world = await ReplicaWorld.open(t, [50_000, 50_000], { replicas: 1, blockBytes: BLOCK_BYTES });
    const { store } = world.replicas[0]!;
    const reports = [];
    for (let i = 0; i < 20; i++) {
      reports.push(store.verify(BLOCK));
      await world.append(20_000);
    }
    for (const { problems } of await Promise.all(reports)) assert.equal(problems, []);
    assert.is(store.info(BLOCK)!.state, BlockState.OPEN);
    assert.is((await store.verify(BLOCK)).records, 22);
  });

  test('a block that is sealed while it is read is no damage', async (t) => {
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 1, blockBytes: BLOCK_BYTES });
    const { store } = world.replicas[0]!;
    const [report] = await Promise.all([store.verify(BLOCK), world.seal()]);
    assert.equal(report!.problems, []);
    assert.is(store.info(BLOCK)!.flags, 0);
  });

  test('a seal and verifications that find no index file yet all write it, and nothing goes wrong', async (t) => {
    const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 1, blockBytes: BLOCK_BYTES });
    const { store, disk } = world.replicas[0]!;
    // A write takes a turn of the event loop, as on a real disk.
    disk.onStep = turn;
    const sealing = world.seal();
    while (store.info(BLOCK)!.state !== BlockState.SEALED) await turn();
    const verifying = Array.from({ length: 4 }, async (_, i) => {
      for (let wait = 0; wait < i; wait++) await turn();
      return store.verify(BLOCK);
    });
    for (const { problems } of await Promise.all(verifying)) assert.equal(problems, []);
    await sealing;
    assert.is(store.readOnly, undefined);
    assert.ok((await disk.stat(IDX_PATH)) !== undefined);
  });

  test('a block whose superblock did not read at the start is told as quarantined', async (t) => {
    const world = await ReplicaWorld.open(t, [100], { replicas: 1 });
    await world.seal();
    await world.restart(0, () => world.flip(0, 100));
    const { problems } = await world.replicas[0]!.store.verify(BLOCK);
    assert.match(problems[0]!, /quarantined/);
  });
}, 60_000);
