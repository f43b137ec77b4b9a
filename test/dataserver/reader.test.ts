import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { blockId } from '../../common/ids.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import type { NameServers } from '../../dataserver/nameservers.ts';
import { Reader } from '../../dataserver/reader.ts';
import { ReadClock } from '../../dataserver/scrub/read-times.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { describe } from '../kit/suite.ts';

const BLOCK = blockId(0x2_0000);

function reader(facts: { state?: number; flags?: number; confirmed?: boolean }): Reader {
  const { state = BlockState.SEALED, flags = 0, confirmed = true } = facts;
  const store = { info: () => (state === 0 ? undefined : { state, flags }) } as unknown as BlockStore;
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
      assert.is(reader({}).honest(error, BLOCK), error);
      assert.ok(isTfsError(reader({ confirmed: false }).honest(error, BLOCK), 'DONT_KNOW'));
    }
    const other = new TfsError('IO', 'planted');
    assert.is(reader({ confirmed: false }).honest(other, BLOCK), other);
  });
});
