import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { epochOf } from '../../common/ids.ts';
import type { FenceReply, SealFact } from '../../common/wire/control.ts';
import { decideSeal, type Fenced, type SealDecision } from '../../nameserver/seal-decision.ts';
import { describe } from '../kit/suite.ts';
import { servers } from './entries.ts';

const EPOCH = epochOf(9);
const digestOf = (length: number, variant = 0): string =>
  (length * 16 + variant).toString(16).padStart(64, '0');

function reply(validLength: number, overrides: Partial<FenceReply> = {}): FenceReply {
  const holes = overrides.holes ?? [];
  return {
    known: true,
    validLength,
    slots: validLength / 100,
    provenLength: 0,
    holes,
    clean: true,
    members: servers(1, 2, 3),
    ...(holes.length === 0 ? { digest: digestOf(validLength) } : {}),
    ...overrides,
  };
}
const UNKNOWN: FenceReply = {
  known: false,
  validLength: 0,
  slots: 0,
  provenLength: 0,
  holes: [],
  clean: false,
  members: [],
};
const sealOf = (length: number, epoch: number): SealFact => ({
  length,
  slots: length / 100,
  digest: digestOf(length),
  epoch: epochOf(epoch),
});

const fenced = (...replies: (FenceReply | undefined)[]): Fenced[] =>
  replies.map((each, i) => ({ server: servers(i + 1)[0]!, reply: each }));

type Sealed = Extract<SealDecision, { kind: 'seal' }>;

describe('seal decision', (test) => {
  const table: {
    readonly name: string;
    readonly replies: (FenceReply | undefined)[];
    readonly expect: Partial<Sealed> | { kind: 'wait' | 'forget' };
  }[] = [
    { name: 'one silent member', replies: [reply(500), undefined, reply(500)], expect: { kind: 'wait' } },
    { name: 'nobody answers', replies: [undefined], expect: { kind: 'wait' } },
    { name: 'nobody holds it', replies: [UNKNOWN, UNKNOWN, UNKNOWN], expect: { kind: 'forget' } },
    {
      name: 'all the same',
      replies: [reply(500), reply(500), reply(500)],
      expect: {
        length: 500,
        slots: 5,
        digest: digestOf(500),
        epoch: EPOCH,
        sealed: [],
        absent: [],
        alarms: [],
      },
    },
    {
      name: 'the longest counts, and is the first source',
      replies: [reply(500), reply(700), reply(600)],
      expect: { length: 700, slots: 7, digest: digestOf(700), holders: servers(2, 1, 3) },
    },
    {
      name: 'of equal length, the one without a hole is the source',
      replies: [reply(700, { holes: [{ start: 200, end: 300 }] }), reply(700), reply(500)],
      expect: { length: 700, digest: digestOf(700), holders: servers(2, 1, 3) },
    },
    {
      name: 'the longest has a hole: it is the best copy, and has to find out its digest',
      replies: [reply(700, { holes: [{ start: 200, end: 300 }] }), reply(500)],
      expect: { length: 700, slots: 7, digest: undefined, holders: servers(1, 2) },
    },
    {
      name: 'a clean one before one that was recovered',
      replies: [reply(500, { clean: false }), reply(500)],
      expect: { holders: servers(2, 1) },
    },
    {
      name: 'an earlier SEAL is adopted with its epoch, though a member has more',
      replies: [reply(900), reply(500, { seal: sealOf(500, 4) }), reply(500)],
      expect: {
        length: 500,
        slots: 5,
        digest: digestOf(500),
        epoch: epochOf(4),
        sealed: servers(2),
        alarms: [],
      },
    },
    {
      name: 'of two SEALs the newest epoch',
      replies: [reply(500, { seal: sealOf(500, 4) }), reply(600, { seal: sealOf(600, 5) })],
      expect: { length: 600, epoch: epochOf(5), sealed: servers(2) },
    },
    {
      name: 'sealed everywhere already',
      replies: [reply(500, { seal: sealOf(500, 4) }), reply(500, { seal: sealOf(500, 4) })],
      expect: { length: 500, sealed: servers(1, 2), alarms: [] },
    },
    {
      name: 'a member without the block is no source',
      replies: [UNKNOWN, reply(500), reply(400)],
      expect: { length: 500, holders: servers(2, 3), absent: servers(1) },
    },
  ];
  for (const { name, replies, expect } of table) {
    test(name, () => {
      const decision: Record<string, unknown> = { ...decideSeal(fenced(...replies), EPOCH) };
      for (const [key, value] of Object.entries(expect)) assert.equal(decision[key], value, key);
    });
  }

  test('acknowledged bytes above an adopted SEAL, and replicas that contradict each other, raise an alarm', () => {
    const above = decideSeal(
      fenced(reply(900, { holes: [{ start: 600, end: 700 }] }), reply(500, { seal: sealOf(500, 4) })),
      EPOCH,
    ) as Sealed;
    assert.match(above.alarms.join(), /server 1 has acknowledged bytes above the sealed length 500/);
    const differ = decideSeal(fenced(reply(500), reply(500, { digest: digestOf(500, 1) })), EPOCH) as Sealed;
    assert.match(differ.alarms.join(), /different digests/);
  });

  test('nothing acknowledged is cut, and two leaders decide the same, whatever was lost or torn', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ has: fc.nat({ max: 9 }), hole: fc.boolean() }), { minLength: 1, maxLength: 4 }),
        fc.nat({ max: 4 }),
        (members, sealedBefore) => {
          // A batch is acknowledged when every member has it.
          const acked = Math.min(...members.map(({ has }) => has)) * 100;
          const replies = members.map(({ has, hole }) =>
            reply(has * 100, hole && acked >= 100 && has > 1 ? { holes: [{ start: 0, end: 100 }] } : {}),
          );
          const first = decideSeal(fenced(...replies), EPOCH) as Sealed;
          assert.ok(first.length >= acked);
          assert.is(first.length, Math.max(...members.map(({ has }) => has)) * 100);
          const source = replies[first.holders[0]! - 1]!;
          assert.ok(source.validLength >= first.length, 'the first source is long enough');
          assert.is(first.slots, first.length / 100);
          // The first leader seals some members and is gone: the next one asks again.
          const again = replies.map((each, i) =>
            i < sealedBefore ? reply(first.length, { seal: sealOf(first.length, EPOCH) }) : each,
          );
          const second = decideSeal(fenced(...again), epochOf(EPOCH + 1)) as Sealed;
          assert.is(second.length, first.length);
          if (sealedBefore > 0) assert.is(second.epoch, EPOCH);
        },
      ),
      { numRuns: 500 },
    );
  });
});
