import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { beginConfiguration, OpType } from '../../common/format/ops.ts';
import { type BlockId, cookieOf, type FileId, serverId, type Version } from '../../common/ids.ts';
import { OPS_OWN_DISK_MS_MAX } from '../../common/limits.ts';
import { encodeMutate, Mutation } from '../../common/wire/messages.ts';
import type { RpcRequest } from '../../common/wire/rpc-server.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import { mutate } from '../../dataserver/mutate.ts';
import type { OpsSequencer } from '../../dataserver/ops-sequencer.ts';
import type { Reader } from '../../dataserver/reader.ts';
import type { Takeover } from '../../dataserver/takeover.ts';
import {
  CONFIGURATION,
  mutation,
  openStore,
  put,
  superblockOf,
  VERSION,
  Writer,
} from '../kit/block-world.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { turns } from '../kit/memory-net.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { describe, type TestContext } from '../kit/suite.ts';

const ID = 65_537 as BlockId;

/**
 * A replica whose log alone holds the deletion of slot 0, and a client that deletes it again.
 *
 * @param confirm what becomes of the log while its operations are being confirmed
 */
async function deleteAgain(
  t: TestContext,
  confirm: (store: Awaited<ReturnType<typeof openStore>>) => Promise<Version>,
): Promise<{ readonly asked: string[]; readonly code: string }> {
  const store = await openStore(new RecordingDisk());
  t.defer(() => store.close());
  const writer = new Writer(superblockOf(ID));
  await store.create(writer.superblock, CONFIGURATION);
  const [record] = await put(store, writer, [Buffer.alloc(20)]);
  await store.appendOps(ID, [mutation(OpType.DELETE, 0, { seq: 2 })]);
  const asked: string[] = [];
  const ops = {
    confirm: () => {
      asked.push('confirm');
      return confirm(store);
    },
    mutate: async (block: BlockId, type: typeof OpType.DELETE, fileId: FileId, opId: Buffer) => {
      asked.push('mutate');
      await store.sequenceOps(block, store.info(block)!.version, [{ type, fileId, opId }]);
    },
  } as unknown as OpsSequencer;
  const request = {
    header: encodeMutate({
      block: ID,
      fileId: 0 as FileId,
      cookie: record!.cookie,
      kind: Mutation.DELETE,
      opId: Buffer.alloc(16, 0xee),
    }),
  } as RpcRequest;
  const takeover = { ensure: () => undefined } as unknown as Takeover;
  const reader = { knows: () => true, honest: (error: unknown) => error } as unknown as Reader;
  const code = await mutate({ store, ops, reader, takeover, clock: new ManualClock() }, request).then(
    ({ header }) => `flags ${header[0]}`,
    (error: unknown) => (isTfsError(error) ? error.code : String(error)),
  );
  return { asked, code };
}

describe('mutate: a name that is so already', (test) => {
  test('is answered when all members hold what made it so', async (t) => {
    const { asked, code } = await deleteAgain(t, async () => VERSION);
    assert.equal(asked, ['confirm']);
    assert.is(code, 'flags 1');
  });

  test('is looked at again when a configuration began meanwhile that does not know of it', async (t) => {
    let n = VERSION.n;
    const { asked, code } = await deleteAgain(t, async (store) => {
      // Another sequencer was at work, and what this log held alone is no part of what it began.
      const version = { epoch: VERSION.epoch, n: ++n };
      const { members, opsPrimary } = CONFIGURATION;
      const [first] = await store.opsAfter(ID, 0);
      const logs = [[first!], []].map((ops, i) => ({ server: serverId(i + 1), ops }));
      const elsewhere = beginConfiguration(logs, { version, members, opsPrimary, atMs: 0 });
      await store.appendOps(ID, [{ ...elsewhere, seq: store.info(ID)!.seq + 1 }]);
      return version;
    });
    assert.equal(asked, ['confirm', 'mutate']);
    assert.is(code, 'flags 1');
  });

  test('is not looked at for ever', async (t) => {
    let n = VERSION.n;
    const { asked, code } = await deleteAgain(t, async () => ({ epoch: VERSION.epoch, n: ++n }));
    assert.is(code, 'UNAVAILABLE');
    assert.ok(asked.length > 1 && asked.every((what) => what === 'confirm'));
  });
});

describe('mutate: a name that the disk does not read', (test) => {
  /** @returns what the client hears, and why another member was asked for */
  const deleteUnread = async (read: () => Promise<never>) => {
    const clock = new ManualClock();
    const reasons: string[] = [];
    const takeover = {
      ensure: () => undefined,
      giveUp: (_: BlockId, { code }: TfsError) => {
        reasons.push(code);
        return Promise.reject(new TfsError('UNAVAILABLE', 'elsewhere', { details: { opsPrimary: 2 } }));
      },
    } as unknown as Takeover;
    const reader = { knows: () => true, honest: (error: unknown) => error } as unknown as Reader;
    const store = { info: () => undefined, check: () => 0, read } as unknown as BlockStore;
    const ops = { mutate: () => assert.unreachable() } as unknown as OpsSequencer;
    const [fileId, opId] = [0 as FileId, Buffer.alloc(16, 1)];
    const header = encodeMutate({ block: ID, fileId, cookie: cookieOf(1), kind: Mutation.DELETE, opId });
    const answer = mutate({ store, ops, reader, takeover, clock }, { header } as RpcRequest).then(
      () => 'done',
      (error: unknown) => (isTfsError(error) ? error.code : String(error)),
    );
    await turns(4);
    await clock.advance(OPS_OWN_DISK_MS_MAX);
    return { code: await answer, reasons };
  };

  test('is deleted by another member in its place: a damaged one, one with bad sectors, one that is waited for', async () => {
    const fail = (code: 'CORRUPT' | 'IO' | 'NOT_FOUND') => () =>
      Promise.reject(new TfsError(code, 'planted'));
    const given = (code: string) => ({ code: 'UNAVAILABLE', reasons: [code] });
    assert.equal(await deleteUnread(fail('CORRUPT')), given('CORRUPT'));
    assert.equal(await deleteUnread(fail('IO')), given('IO'));
    assert.equal(await deleteUnread(() => new Promise(() => undefined)), given('DEADLINE'));
    assert.equal(await deleteUnread(fail('NOT_FOUND')), { code: 'NOT_FOUND', reasons: [] });
  });
});
