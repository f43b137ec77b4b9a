import * as assert from 'uvu/assert';
import type { BlockId } from '../../../common/ids.ts';
import { silentLog } from '../../../common/log.ts';
import { BlockFlag, BlockState } from '../../../common/wire/messages.ts';
import { isLedgerKey, ScrubLedger } from '../../../dataserver/scrub/ledger.ts';
import { beginPass, dueIn, isPassDue, isScrubbed, type Replica } from '../../../dataserver/scrub/pass.ts';
import { superblockOf } from '../../kit/block-world.ts';
import { MemoryKvMedium } from '../../kit/memory-kv.ts';
import { MADE_AT, replica } from '../../kit/scrubbed-replica.ts';
import { describe } from '../../kit/suite.ts';

const NOW = MADE_AT + 1_000_000;

const due = (
  replicas: readonly Replica[],
  readAt: Record<number, number> = {},
  pass = beginPass(NOW, false),
) => dueIn(pass, replicas, (block) => readAt[block], NOW).map(({ block }) => block as number);

describe('a pass of the scrub', (test) => {
  test('the replica that was read longest ago comes first, what was read in this pass not at all', () => {
    const all = [1, 2, 3, 4].map((block) => replica(block));
    assert.equal(due(all), [1, 2, 3, 4]);
    const readAt = { 1: NOW - 10, 2: NOW - 30, 3: NOW, 4: NOW - 20 };
    assert.equal(due(all, readAt), [2, 4, 1]);
    assert.equal(
      due([...all, replica(5)], readAt),
      [5, 2, 4, 1],
      'one that nobody has read, as of when it was made',
    );
  });

  test('what was made in this pass waits for the next one; a clock that was set back hides nothing', () => {
    const young = { ...superblockOf(1), createdAtMs: NOW + 5 };
    assert.equal(due([replica(1, { superblock: young })]), []);
    assert.equal(due([replica(1)], { 1: NOW + 5_000_000 }), [1]);
  });

  test('only what is sealed and not about to be repaired', () => {
    for (const state of [BlockState.OPEN, BlockState.FENCED, BlockState.RECOVERED])
      assert.not(isScrubbed(replica(1, { state, seal: undefined })));
    assert.not(isScrubbed(replica(1, { flags: BlockFlag.SUSPECT })));
    assert.not(isScrubbed(replica(1, { flags: BlockFlag.SUSPECT | BlockFlag.QUARANTINED })));
    assert.ok(isScrubbed(replica(1, { flags: BlockFlag.SUSPECT, seal: { ...replica(1).seal!, lost: 2 } })));
  });

  test('passes begin as far apart as one may take, however soon one is over', () => {
    const week = 1000;
    const ended = { ...beginPass(NOW, true), endedAtMs: NOW + 3 };
    assert.ok(isPassDue(undefined, NOW, week));
    assert.not(isPassDue(undefined, NOW, 0), 'only when somebody asks');
    assert.not(isPassDue(beginPass(NOW, false), NOW + 5000, week), 'one that is late is finished first');
    assert.not(isPassDue(ended, NOW + 999, week));
    assert.ok(isPassDue(ended, NOW + 1000, week));
    assert.not(isPassDue(ended, NOW - 10, week));
    assert.ok(isPassDue(ended, NOW - 3_600_000, week), 'the clock was set back');
  });

  test('the ledger is what it was after a restart, without replicas that are gone', async () => {
    const medium = new MemoryKvMedium();
    const holds = new Set([1, 2]);
    const open = async () => {
      const kv = await medium.open();
      return { kv, ledger: await ScrubLedger.open(kv, silentLog, (block) => holds.has(block)) };
    };
    const first = await open();
    assert.is(first.ledger.pass, undefined);
    await first.ledger.begin(beginPass(NOW, true));
    await first.ledger.read(1 as BlockId, NOW + 1, { ...beginPass(NOW, true), replicas: 1, bytes: 10 });
    await first.ledger.read(2 as BlockId, NOW + 2, { ...beginPass(NOW, true), replicas: 2, bytes: 20 });
    await first.kv.close();
    holds.delete(1);
    const second = await open();
    assert.is(second.ledger.pass?.bytes, 20);
    assert.is(second.ledger.last, undefined);
    assert.equal(
      [second.ledger.readAtMs(1 as BlockId), second.ledger.readAtMs(2 as BlockId)],
      [undefined, NOW + 2],
    );
    const ended = { ...second.ledger.pass!, endedAtMs: NOW + 9 };
    await second.ledger.end(ended);
    const keys: Buffer[] = [];
    for await (const [key] of second.kv.entries({})) keys.push(key);
    assert.is(keys.length, 3, 'one replica, the pass, the last one');
    assert.ok(keys.every(isLedgerKey));
    await second.kv.close();
    const third = await open();
    assert.equal([third.ledger.pass, third.ledger.last], [ended, ended]);
    await third.kv.close();
  });

  test('the ledger knows of the damage that was not repaired, and of none of what is gone', async () => {
    const medium = new MemoryKvMedium();
    const holds = new Set([1, 2, 3]);
    const open = async () => {
      const kv = await medium.open();
      return { kv, ledger: await ScrubLedger.open(kv, silentLog, (block) => holds.has(block)) };
    };
    const first = await open();
    for (const block of [1, 2, 3] as BlockId[]) await first.ledger.noteDamage(block, true);
    await first.ledger.noteDamage(2 as BlockId, false);
    await first.ledger.noteDamage(2 as BlockId, false);
    await first.ledger.read(1 as BlockId, NOW);
    assert.equal([...first.ledger.damaged], [1, 3]);
    await first.kv.close();
    holds.delete(3);
    const second = await open();
    assert.equal([...second.ledger.damaged], [1]);
    assert.is(second.ledger.readAtMs(1 as BlockId), NOW);
    const keys: Buffer[] = [];
    for await (const [key] of second.kv.entries({})) keys.push(key);
    assert.ok(keys.length === 2 && keys.every(isLedgerKey));
    await second.kv.close();
  });
});
