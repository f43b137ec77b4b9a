import * as assert from 'uvu/assert';
import { isTfsError, type TfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import { beginConfiguration, OpType } from '../../common/format/ops.ts';
import { epochOf, fileId, type Slot, serverId } from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import { Op } from '../../common/wire/messages.ts';
import type { Peers } from '../../common/wire/peers.ts';
import type { RpcRequest } from '../../common/wire/rpc-server.ts';
import { BlockStore } from '../../dataserver/block/store.ts';
import { OpsSequencer, type OpsSequencerDeps } from '../../dataserver/ops-sequencer.ts';
import { PromiseKeeper } from '../../dataserver/promise.ts';
import { Replica } from '../../dataserver/replica.ts';
import { CLUSTER, put, RushingClock, superblockOf, Writer } from '../kit/block-world.ts';
import { BLOCK } from '../kit/ops-world.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe } from '../kit/suite.ts';

const [SEQUENCER, MEMBER] = [serverId(1), serverId(2)];

const openStore = (disk: RecordingDisk, server: typeof MEMBER) =>
  BlockStore.open({
    disk,
    clock: new RushingClock(),
    random: new SeededRandom(server),
    clusterUuid: CLUSTER,
    server,
    budgets: { indexBytes: 1 << 24, openFiles: 64 },
    log: silentLog,
    limits: { opsReserveBytes: 0, opsLogBytes: 1 << 20 },
  });

/** The sequencer of one block, a process on `disk`, and the member that it gives its operations to. */
async function process(
  disk: RecordingDisk,
  memberDisk: RecordingDisk,
  member: BlockStore,
  requestConfiguration: OpsSequencerDeps['requestConfiguration'] = () =>
    Promise.reject(new Error('nobody is left out here')),
) {
  const store = await openStore(disk, SEQUENCER);
  const promise = await PromiseKeeper.open(memberDisk);
  const replica = new Replica({ server: MEMBER, store: member, promise, log: silentLog } as never);
  const peers = {
    call: async (_: unknown, op: number, header: Buffer, payload: readonly Buffer[] = []) => {
      assert.is(op, Op.OPS);
      const reply = await replica.ops({
        op,
        header,
        payload: Buffer.concat(payload),
        peer: { role: 'dataserver', id: String(SEQUENCER) },
      } as RpcRequest);
      return { header: reply.header, payload: Buffer.alloc(0) };
    },
  } as unknown as Peers;
  const setBack: TfsError[] = [];
  const ops = new OpsSequencer({
    server: SEQUENCER,
    store,
    peers,
    directory: { address: async (id) => ({ host: 'node', port: id }), refresh: async () => undefined },
    clock: new RushingClock(),
    minWrite: 2,
    requestConfiguration,
    onSetBack: (error) => setBack.push(error),
    onDiskLate: () => undefined,
    isTimeKnown: () => true,
  });
  const remove = (slot: number) =>
    ops.mutate(BLOCK, OpType.DELETE, fileId(slot as Slot), Buffer.alloc(16, slot + 1));
  return { store, ops, setBack, remove };
}

async function world() {
  const disks = [new RecordingDisk(), new RecordingDisk()] as const;
  const stores = [await openStore(disks[0], SEQUENCER), await openStore(disks[1], MEMBER)] as const;
  for (const store of stores) {
    const writer = new Writer(superblockOf(BLOCK));
    await store.create(writer.superblock, {
      version: { epoch: epochOf(1), n: 1 },
      opsPrimary: SEQUENCER,
      members: [SEQUENCER, MEMBER],
    });
    await put(
      store,
      writer,
      [0, 1, 2, 3].map((i) => Buffer.alloc(64, i)),
    );
  }
  await stores[0].close();
  return { disks, member: stores[1] };
}

describe('a sequencer on a disk that was set back', (test) => {
  test('gives no place in the order away twice: it asks the members first, and ends', async () => {
    const { disks, member } = await world();
    const first = await process(disks[0], disks[1], member);
    await first.remove(0);
    const copy = disks[0].settled();
    const copied = first.store.info(BLOCK)!.seq;
    await first.remove(1);
    await first.store.close();

    const second = await process(copy, disks[1], member);
    const error = await second.remove(2).catch((thrown: unknown) => thrown);
    assert.ok(isTfsError(error, 'CORRUPT'), String(error));
    assert.match(
      error.message,
      /holds operation 3 of block \d+, this disk, which gave it out, only 2: .*set back/,
    );
    assert.is(second.setBack.length, 1);
    assert.is(second.setBack[0]!.code, 'REFUSED');
    assert.is(second.store.info(BLOCK)!.seq, copied, 'nothing was written');
    assert.is(member.info(BLOCK)!.seq, copied + 1);
    await second.store.close();
    await member.close();
  });

  test('one that was only restarted goes on, and brings the member what it lacks', async () => {
    const { disks, member } = await world();
    const first = await process(disks[0], disks[1], member);
    await first.remove(0);
    await first.store.sequenceOps(BLOCK, first.store.info(BLOCK)!.version, [
      { type: OpType.DELETE, fileId: fileId(1 as Slot), opId: Buffer.alloc(16, 77) },
    ]);
    await first.store.close();

    const second = await process(disks[0], disks[1], member);
    await second.remove(2);
    assert.equal(second.setBack, []);
    assert.is(member.info(BLOCK)!.seq, second.store.info(BLOCK)!.seq);
    await second.store.close();
    await member.close();
  });

  test('one whose last operation has rotted says nothing of its disk: it waits for what it lacks, and goes on', async () => {
    const { disks, member } = await world();
    const first = await process(disks[0], disks[1], member);
    await first.remove(0);
    await first.remove(1);
    const { seq, version } = first.store.info(BLOCK)!;
    await first.store.close();
    const path = `blocks/${blockFileName(BLOCK, 0, 'ops')}`;
    const log = await disks[0].readFile(path);
    const file = await disks[0].open(path, 'write');
    const at = log.findLastIndex((byte) => byte !== 0);
    await file.writeDurable([Buffer.from([log[at]! ^ 1])], at);
    await file.close();

    const second = await process(disks[0], disks[1], member);
    assert.is(second.store.info(BLOCK)!.seq, seq - 1);
    const error = await second.remove(2).catch((thrown: unknown) => thrown);
    assert.ok(isTfsError(error, 'UNAVAILABLE'), String(error));
    assert.match(error.message, /DataServer 2 holds operation 3 of block \d+, and the log here only 2/);
    assert.not('avoid' in (error.details ?? {}), 'nobody is to be left out');
    assert.equal(second.setBack, []);
    assert.is(second.store.info(BLOCK)!.seq, seq - 1, 'no place was given away');
    await second.store.appendOps(BLOCK, await member.opsAfter(BLOCK, seq - 1));
    await second.remove(2);
    assert.equal(second.store.info(BLOCK)!.version, version);
    assert.equal([second.store.info(BLOCK)!.seq, member.info(BLOCK)!.seq], [seq + 1, seq + 1]);
    await second.store.close();
    await member.close();
  });
});

describe('a sequencer that the others have left out', (test) => {
  test('asks once, says who orders the operations now, and writes nothing', async () => {
    const { disks, member } = await world();
    const version = { epoch: epochOf(1), n: 2 };
    const begin = beginConfiguration([{ server: MEMBER, ops: await member.prepareOps(BLOCK, version) }], {
      version,
      members: [MEMBER, serverId(3)],
      opsPrimary: MEMBER,
      atMs: member.opsNow,
      tombstonesWin: false,
    });
    await member.appendOps(BLOCK, [begin]);
    const asked: unknown[] = [];
    const { store, remove } = await process(disks[0], disks[1], member, async (block, failed, renew) => {
      asked.push([block, failed, renew]);
      return { version, opsPrimary: MEMBER };
    });
    const before = store.info(BLOCK)!;
    const error = await remove(2).catch((thrown: unknown) => thrown);
    assert.ok(isTfsError(error, 'UNAVAILABLE'), String(error));
    assert.equal(error.details, { opsPrimary: MEMBER });
    assert.equal(asked, [[BLOCK, [], { renew: true }]]);
    assert.equal([store.info(BLOCK)!.version, store.info(BLOCK)!.seq], [before.version, before.seq]);
    await store.close();
    await member.close();
  });
});
