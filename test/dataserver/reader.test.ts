import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { blockId, type Cookie, type FileId } from '../../common/ids.ts';
import {
  BlockFlag,
  BlockState,
  decodeCheckReply,
  encodeCheck,
  encodeRead,
  NameFlag,
} from '../../common/wire/messages.ts';
import type { RpcRequest } from '../../common/wire/rpc-server.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import type { NameServers } from '../../dataserver/nameservers.ts';
import { Reader } from '../../dataserver/reader.ts';
import { ReadClock } from '../../dataserver/scrub/read-times.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { describe } from '../kit/suite.ts';

const BLOCK = blockId(0x2_0000);

interface Facts {
  readonly state?: number;
  readonly flags?: number;
  readonly confirmed?: boolean;
  /** Of the one name that there is. */
  readonly nameFlags?: number;
  /** What comes of reading it. */
  readonly error?: TfsError;
}

function reader(facts: Facts): Reader {
  const { state = BlockState.SEALED, flags = 0, confirmed = true, nameFlags = 0, error } = facts;
  const store = {
    info: () => (state === 0 ? undefined : { state, flags }),
    check: () => nameFlags,
    read: () => Promise.reject(error),
  } as unknown as BlockStore;
  const nameservers = { inContact: true, isConfirmed: () => confirmed } as unknown as NameServers;
  return new Reader({ store, nameservers, reads: new ReadClock(new ManualClock()) });
}

describe('reader', (test) => {
  test('current is a replica that this process has written or that is sealed, that the leader confirmed and that is not damaged', () => {
    assert.ok(reader({}).isCurrent(BLOCK));
    for (const state of [BlockState.OPEN, BlockState.FENCED]) assert.ok(reader({ state }).isCurrent(BLOCK));
    for (const other of [
      { confirmed: false },
      { state: BlockState.RECOVERED },
      { state: 0 },
      { flags: BlockFlag.SUSPECT },
      { flags: BlockFlag.QUARANTINED },
    ])
      assert.not(reader(other).isCurrent(BLOCK), JSON.stringify(other));
  });

  test('only a current replica says that something is not there, or gone', () => {
    for (const code of ['NOT_FOUND', 'GONE'] as const) {
      const error = new TfsError(code, 'planted');
      assert.is(reader({}).honest(error, BLOCK, true), error);
      assert.ok(isTfsError(reader({ confirmed: false }).honest(error, BLOCK, true), 'DONT_KNOW'));
    }
    const other = new TfsError('IO', 'planted');
    assert.is(reader({ confirmed: false }).honest(other, BLOCK, true), other);
  });

  test('what was looked at before a replica became current proves nothing', async () => {
    let confirmed = false;
    const store = {
      info: () => ({ state: BlockState.SEALED, flags: 0 }),
      check: async () => {
        confirmed = true;
        return NameFlag.DELETED;
      },
      read: async () => {
        confirmed = true;
        throw new TfsError('NOT_FOUND', 'planted');
      },
    } as unknown as BlockStore;
    const nameservers = { isConfirmed: () => confirmed } as unknown as NameServers;
    const late = new Reader({ store, nameservers, reads: new ReadClock(new ManualClock()) });
    const key = { block: BLOCK, fileId: 0 as FileId, cookie: 1 as Cookie };
    for (const isLate of [true, false]) {
      confirmed = !isLate;
      const { header } = await late.check({ header: encodeCheck(key) } as RpcRequest);
      assert.is(decodeCheckReply(header!).provisional, isLate);
      confirmed = !isLate;
      const failure = await late
        .read({ header: encodeRead({ ...key, offset: 0, length: 1, force: false }) } as RpcRequest)
        .catch((error: unknown) => error);
      assert.ok(isTfsError(failure, isLate ? 'DONT_KNOW' : 'NOT_FOUND'), String(failure));
    }
  });

  test('a replica that lacks nothing but its seal is sure of what is deleted or hidden, and of nothing else', async () => {
    const state = BlockState.RECOVERED;
    const key = { block: BLOCK, fileId: 0 as FileId, cookie: 1 as Cookie };
    const isSure = async (facts: Facts) => {
      const { header } = await reader(facts).check({ header: encodeCheck(key) } as RpcRequest);
      return !decodeCheckReply(header).provisional;
    };
    for (const nameFlags of [NameFlag.DELETED, NameFlag.HIDDEN]) {
      assert.ok(await isSure({ state, nameFlags }));
      assert.not(await isSure({ state, nameFlags, confirmed: false }));
      for (const flags of [BlockFlag.SUSPECT, BlockFlag.QUARANTINED])
        assert.not(await isSure({ state, nameFlags, flags }));
    }
    assert.not(await isSure({ state }), 'that it is there');

    const read = { ...key, offset: 0, length: 1, force: false };
    const codeOfRead = (facts: Facts) =>
      reader(facts)
        .read({ header: encodeRead(read) } as RpcRequest)
        .catch(({ code }: TfsError) => code);
    // Which the store says of nothing else, see store.test.ts.
    const error = new TfsError('NOT_FOUND', 'planted');
    assert.is(await codeOfRead({ state, error }), 'NOT_FOUND');
    assert.is(await codeOfRead({ state, error, confirmed: false }), 'DONT_KNOW');
    assert.is(await codeOfRead({ state, error, flags: BlockFlag.SUSPECT }), 'DONT_KNOW');
  });
});
