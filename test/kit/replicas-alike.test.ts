import * as assert from 'uvu/assert';
import { epochOf, type ServerId } from '../../common/ids.ts';
import { type BlockEntry, BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { entryOf } from '../nameserver/entries.ts';
import { unlikeIn } from './replicas-alike.ts';
import { describe } from './suite.ts';

const MEMBERS = [1, 2, 3] as ServerId[];
const SEALED = entryOf({ block: 65_537, state: BlockState.SEALED, length: 9000, seq: 4, epoch: 3 });

/** What is wrong with a block when server 3 has it like this. */
const withThird = (third: Partial<BlockEntry> | undefined, all: Partial<BlockEntry> = {}): number => {
  const entry = { ...SEALED, ...all };
  const replicas = MEMBERS.slice(0, 2).map((server) => ({ server, entry }));
  if (third !== undefined) replicas.push({ server: 3 as ServerId, entry: { ...entry, ...third } });
  return unlikeIn(replicas).length;
};

describe('the comparison of replicas', (test) => {
  test('alike: sealed, or being written', () => {
    assert.is(withThird({}), 0);
    assert.is(withThird({}, { state: BlockState.OPEN }), 0);
    assert.is(withThird({ deadBytes: 5 }), 0, 'what is dead is an estimate');
  });

  test('not alike: another length, operation, configuration, state, or damage', () => {
    for (const third of [
      { length: 9008 },
      { seq: 3 },
      { version: { epoch: epochOf(3), n: 2 } },
      { opsPrimary: 2 as ServerId },
      { state: BlockState.OPEN },
      { state: BlockState.RECOVERED },
      { flags: BlockFlag.SUSPECT },
    ] as Partial<BlockEntry>[])
      assert.is(withThird(third), 1, JSON.stringify(third));
  });

  test('not alike: a session that is over and not sealed, a member without a replica, a replica that is no member', () => {
    assert.is(withThird({}, { state: BlockState.FENCED }), 1);
    assert.is(withThird(undefined), 1);
    assert.is(withThird({}, { members: MEMBERS.slice(0, 2) }), 1);
    assert.is(withThird(undefined, { members: MEMBERS.slice(0, 2) }), 0, 'written while a server was away');
  });
});
