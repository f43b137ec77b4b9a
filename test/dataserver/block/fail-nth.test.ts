import * as assert from 'uvu/assert';
import { isTfsError, type TfsError } from '../../../common/errors.ts';
import { OpType } from '../../../common/format/ops.ts';
import type { BlockId, Epoch, FileId } from '../../../common/ids.ts';
import type { BlockStore } from '../../../dataserver/block/store.ts';
import { mutation, openStore, raw } from '../../kit/block-world.ts';
import { checkStore } from '../../kit/crash-check.ts';
import { endOf, type Model, type ModelBlock, snapshotOf } from '../../kit/crash-model.ts';
import { appendGiven, create, SMALL_BLOCK_BYTES } from '../../kit/crash-workload.ts';
import { type CallKind, type FailureCode, RecordingDisk } from '../../kit/recording-disk.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { describe } from '../../kit/suite.ts';

Error.stackTraceLimit = 4;

const EPOCH = 1 as Epoch;
const LIMITS = { opsReserveBytes: 8192, opsLogBytes: 600 };
const ALL = { offset: 0, length: 0xffff_ffff };
const NO_FAULTS = { has: () => false };
const CALLS_MAX = 200;

/** One operation of the store, done once more with each of its disk calls failing in turn. */
interface Operation {
  /** Brings the store to where the operation starts. */
  readonly before?: (store: BlockStore, model: Model) => Promise<void>;
  /** Open the store anew before the operation, so that nothing is in memory. */
  readonly restart?: boolean;
  /** What was on the disk when it was opened anew. */
  readonly found?: (disk: RecordingDisk) => void;
  readonly run: (store: BlockStore, model: Model) => Promise<unknown>;
}

const first = (model: Model): [BlockId, ModelBlock] => [...model][0]!;
const payload = (size: number, fill: number): Buffer => Buffer.alloc(size, fill);

async function makeBlock(store: BlockStore, model: Model): Promise<void> {
  await create(store, model, { random: new SeededRandom(3), faults: NO_FAULTS, actions: 0 });
  const [id, block] = [...model].at(-1)!;
  await appendGiven(store, id, block, [payload(700, 1), payload(0, 2), payload(1300, 3)]);
  await appendGiven(store, id, block, [payload(40, 4)]);
}

async function op(store: BlockStore, model: Model, ...slots: number[]): Promise<void> {
  const [id, block] = first(model);
  const ops = slots.map((slot, i) =>
    mutation(slot % 2 === 0 ? OpType.DELETE : OpType.HIDE, slot, { seq: block.opsGiven.length + 1 + i }),
  );
  block.opsGiven = [...block.opsGiven, ...ops];
  await store.appendOps(id, ops);
  block.opsAcked = block.opsGiven.length;
}

async function fence(store: BlockStore, model: Model): Promise<void> {
  const [id, block] = first(model);
  const facts = await store.fence(id, EPOCH);
  block.fencedAt = facts.validLength;
  assert.ok(facts.validLength >= endOf(block, block.acked));
}

async function seal(store: BlockStore, model: Model, slots?: number): Promise<void> {
  const [id, block] = first(model);
  const facts = await store.fence(id, EPOCH);
  const count = slots ?? facts.slots;
  block.sealing = { length: endOf(block, count), slots: count, digest: undefined, epoch: EPOCH };
  block.acked = Math.min(block.acked, count);
  block.sealed = await store.seal(id, block.sealing);
}

async function readAll(store: BlockStore, model: Model): Promise<void> {
  for (const [id, block] of model) {
    if (!block.created) continue;
    for (const record of block.given.slice(0, block.acked)) {
      const found = await store.read(id, record.slot as number as FileId, record.cookie, ALL, true);
      assert.ok(found.payload.equals(record.payload), 'the bytes are those that were stored');
    }
  }
}

const operations: Record<string, Operation> = {
  'create in a new file': { run: makeBlock },
  'create in a spare': { before: (store) => store.prepareSpares(1, SMALL_BLOCK_BYTES), run: makeBlock },
  append: {
    before: makeBlock,
    run: async (store, model) => {
      const [id, block] = first(model);
      const batch = block.writer.batch([payload(900, 5), payload(10, 6)]);
      block.given = [...block.given, ...batch.records];
      await store.appendBatch(id, block.superblock.session, batch);
      block.acked = block.given.length;
    },
  },
  'append as a member': {
    before: makeBlock,
    run: async (store, model) => {
      const [id, block] = first(model);
      const batch = block.writer.batch([payload(900, 5), payload(10, 6)]);
      block.given = [...block.given, ...batch.records];
      await store.appendRaw(id, block.superblock.session, batch.offset, raw(batch), block.writer.acked);
      block.acked = block.given.length;
    },
  },
  'ops of an open block': { before: makeBlock, run: (store, model) => op(store, model, 0, 1) },
  'ops that make the log too long': {
    before: makeBlock,
    run: async (store, model) => {
      for (let i = 0; i < 4; i++) await op(store, model, 0, 1, 2, 3);
    },
  },
  'ops of a block that is not in memory': {
    before: async (store, model) => {
      await makeBlock(store, model);
      await seal(store, model);
    },
    restart: true,
    run: (store, model) => op(store, model, 2),
  },
  'ops after a torn one': {
    before: makeBlock,
    restart: true,
    found: (disk) =>
      disk.corrupt('blocks/65536.0.ops', (log) => Buffer.concat([log, Buffer.alloc(90, 0xee)])),
    run: (store, model) => op(store, model, 2),
  },
  'read of a sealed block that is not in memory': {
    before: async (store, model) => {
      await makeBlock(store, model);
      await seal(store, model);
    },
    restart: true,
    run: readAll,
  },
  'read of a recovered block': { before: makeBlock, restart: true, run: readAll },
  'check of a name that is not in memory': {
    before: makeBlock,
    restart: true,
    run: async (store, model) => assert.is(await store.check(first(model)[0], 0 as FileId), 0),
  },
  'ops for a member': {
    before: async (store, model) => {
      await makeBlock(store, model);
      await op(store, model, 0);
    },
    restart: true,
    run: async (store, model) => assert.is((await store.opsAfter(first(model)[0], 1)).length, 1),
  },
  'fence of an open block': { before: makeBlock, run: fence },
  'fence of a recovered block': { before: makeBlock, restart: true, run: fence },
  'records for a member': {
    before: makeBlock,
    run: async (store, model) => {
      const [id, block] = first(model);
      const { bytes } = await store.readRaw(id, 0, 4096, 1 << 20);
      // A sector that cannot be read leaves what lies before it, for the one who asks to try elsewhere.
      assert.ok(bytes.length === endOf(block, block.acked) - 4096 || store.info(id)!.flags !== 0);
    },
  },
  repair: {
    before: makeBlock,
    restart: true,
    run: async (store, model) => {
      const [id, block] = first(model);
      await store.fence(id, EPOCH);
      const batch = block.writer.batch([payload(300, 7)]);
      block.given = [...block.given, ...batch.records];
      await store.fill(id, batch.offset, raw(batch));
      // It is durable, and counts when the block has been walked again.
      await fence(store, model);
      block.acked = block.given.length;
    },
  },
  seal: { before: makeBlock, run: (store, model) => seal(store, model) },
  'seal with surplus': {
    before: async (store, model) => {
      await makeBlock(store, model);
      const [id, block] = first(model);
      await appendGiven(store, id, block, [payload(500, 8)], { raw: false, acked: false });
    },
    run: (store, model) => seal(store, model, 4),
  },
  'seal of a recovered block': {
    before: makeBlock,
    restart: true,
    run: (store, model) => seal(store, model),
  },
  verify: {
    before: makeBlock,
    run: async (store, model) => {
      const report = await store.verify(first(model)[0]);
      // What cannot be read is told; what was read is no less for it.
      assert.ok(report.problems.length > 0 || report.records === 4);
    },
  },
  'entries of the SHA-1 index': {
    before: async (store, model) => {
      await makeBlock(store, model);
      await seal(store, model);
    },
    restart: true,
    run: async (store, model) => {
      const [id, block] = first(model);
      for await (const { slot, sha1 } of store.records.refs(id))
        assert.ok(sha1.equals(block.given[slot]!.sha1));
    },
  },
  'preparing spares': { run: (store) => store.prepareSpares(2, SMALL_BLOCK_BYTES) },
};

const WRITING: readonly CallKind[] = ['write', 'sync', 'name', 'open'];
const failures: readonly { code: FailureCode; kinds: readonly CallKind[]; sticky?: boolean }[] = [
  { code: 'IO', kinds: [...WRITING, 'read'] },
  { code: 'DISK_FULL', kinds: ['write', 'name'] },
  { code: 'READ_ONLY', kinds: ['write', 'name'], sticky: true },
];

/** The operation on a fresh disk, with its nth call failing. @returns whether that many calls were made */
async function runOnce(operation: Operation, plan: (typeof failures)[number], nth: number): Promise<boolean> {
  let disk = new RecordingDisk();
  disk.tearing = () => 0.6;
  const model: Model = new Map();
  let store = await openStore(disk, { limits: LIMITS });
  await operation.before?.(store, model);
  if (operation.restart) {
    await store.close();
    disk = disk.settled();
    disk.tearing = () => 0.6;
    operation.found?.(disk);
    store = await openStore(disk, { limits: LIMITS });
  }
  const failure = { nth, code: plan.code, kinds: plan.kinds, sticky: plan.sticky ?? false };
  disk.failure = failure;
  const error = await operation.run(store, model).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  const failed = failure.nth <= 0;
  disk.failure = undefined;
  if (!failed && error !== undefined) throw error;
  if (error !== undefined) expectHonest(error as TfsError, plan.code);
  // What was confirmed is still served by the process that saw the failure.
  await readAll(store, model);
  if (store.readOnly !== undefined) {
    assert.is.not(plan.code, 'DISK_FULL', 'a full disk does not end all writing');
    const refused = await store.prepareSpares(9, SMALL_BLOCK_BYTES).catch((thrown: unknown) => thrown);
    assert.ok(isTfsError(refused, 'READ_ONLY'), 'nothing is written after a failed write');
  } else if (plan.code === 'DISK_FULL' && model.size > 0 && first(model)[1].created) {
    // There is space again. What was refused is not there, and its place is free.
    const [id, block] = first(model);
    block.opsGiven = block.opsGiven.slice(0, store.info(id)!.seq);
    await op(store, model, 1);
  }
  // And after the power went, whatever of the unsynced it took.
  const point = disk.crashPoint();
  const random = new SeededRandom(nth);
  const keeps = [() => true, () => false, () => random.below(2) === 0];
  for (const keep of keeps) {
    const again = await openStore(point.image(keep), { limits: LIMITS });
    await checkStore(again, snapshotOf(model));
    await again.close();
  }
  await store.close();
  return failed;
}

function expectHonest(error: TfsError, code: FailureCode): void {
  const honest = [code, 'IO', 'READ_ONLY', 'SESSION_ENDED'];
  assert.ok(isTfsError(error) && honest.includes(error.code), `${code} was answered as ${String(error)}`);
}

describe('block store when the nth disk call fails', (test) => {
  for (const [name, operation] of Object.entries(operations)) {
    test(name, async () => {
      for (const plan of failures) {
        let nth = 1;
        try {
          while (await runOnce(operation, plan, nth))
            assert.ok(++nth < CALLS_MAX, 'the operation comes to an end');
        } catch (error) {
          throw new Error(
            `${plan.code} at call ${nth}: ${error instanceof Error ? error.stack : String(error)}`,
          );
        }
      }
    });
  }
}, 60_000);
