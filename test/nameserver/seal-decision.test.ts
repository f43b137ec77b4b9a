import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { epochOf } from '../../common/ids.ts';
import type { FenceReply, SealFact } from '../../common/wire/control.ts';
import {
  type Asked,
  decideSeal,
  SEAL_TIMES,
  type SealDecision,
  type SealQuestion,
} from '../../nameserver/seal-decision.ts';
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

/** A number is a member that has been silent for that long. */
type Answer = FenceReply | number;

const asked = (answers: readonly Answer[]): Asked[] =>
  answers.map((each, i) => {
    const server = servers(i + 1)[0]!;
    return typeof each === 'number' ? { server, silentForMs: each } : { server, reply: each };
  });

const decide = (answers: readonly Answer[], more: Partial<SealQuestion> = {}): SealDecision =>
  decideSeal({ asked: asked(answers), waitedMs: 0, epoch: EPOCH, ...more });

type Sealed = Extract<SealDecision, { kind: 'seal' }>;

describe('seal decision', (test) => {
  const table: {
    readonly name: string;
    readonly replies: Answer[];
    readonly waitedMs?: number;
    readonly expect: Partial<Sealed> | Partial<Extract<SealDecision, { kind: 'wait' }>> | { kind: 'forget' };
  }[] = [
    { name: 'one silent member', replies: [reply(500), 0, reply(500)], expect: { kind: 'wait' } },
    { name: 'nobody answers', replies: [0], expect: { kind: 'wait' } },
    { name: 'nobody holds it', replies: [UNKNOWN, UNKNOWN, UNKNOWN], expect: { kind: 'forget' } },
    {
      name: 'nobody holds it, and one was taken out of the cluster',
      replies: [UNKNOWN, Number.POSITIVE_INFINITY],
      expect: { kind: 'forget' },
    },
    {
      name: 'nobody holds it, and one is silent, however long',
      replies: [UNKNOWN, 1e9],
      expect: { kind: 'wait' },
    },
    {
      name: 'all were taken out of the cluster',
      replies: [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
      expect: { kind: 'wait' },
    },
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
      name: 'a clean copy, after the others were waited for',
      replies: [reply(500), 30_000, 30_000],
      waitedMs: 30_000,
      expect: { length: 500, holders: servers(1), missing: servers(2, 3), mayLose: false, alarms: [] },
    },
    {
      name: 'copies of which none is clean are not enough yet',
      replies: [reply(500, { clean: false }), reply(600, { clean: false }), 500_000],
      waitedMs: 500_000,
      expect: { kind: 'wait', missing: servers(3) },
    },
    {
      name: 'copies of which none is clean, when the other one is dead',
      replies: [reply(500, { clean: false }), reply(600, { clean: false }), 600_000],
      waitedMs: 600_000,
      expect: { length: 600, missing: servers(3), mayLose: true },
    },
    {
      name: 'a member that is sealed already, after the others were waited for',
      replies: [reply(500, { seal: sealOf(500, 4) }), 30_000, reply(700, { clean: false })],
      waitedMs: 30_000,
      expect: { length: 500, epoch: epochOf(4), sealed: servers(1), holders: servers(1, 3) },
    },
    {
      name: 'a member whose SEAL is not in force any more is sealed again',
      replies: [reply(500, { clean: false, seal: sealOf(500, 4) }), reply(500, { seal: sealOf(500, 4) })],
      expect: { length: 500, sealed: servers(2), holders: servers(2, 1) },
    },
    {
      name: 'one that cannot be read has answered, and is neither a source nor sealed',
      replies: [reply(500, { unreadable: true }), reply(400, { clean: false }), reply(300, { clean: false })],
      expect: { length: 400, holders: servers(2, 3), absent: [], alarms: [] },
    },
    {
      name: 'of which none can be read, nothing is sealed or forgotten',
      replies: [reply(0, { unreadable: true }), UNKNOWN],
      expect: { kind: 'wait' },
    },
    {
      name: 'what a watermark proves counts, also where nobody holds it',
      replies: [reply(500, { provenLength: 600 }), reply(400)],
      expect: { length: 600, slots: 5, digest: undefined },
    },
    {
      name: 'a complete SEAL before a newer one',
      replies: [
        reply(500, { seal: { ...sealOf(500, 4), complete: true } }),
        reply(400, { seal: sealOf(400, 7) }),
      ],
      expect: { length: 500, epoch: epochOf(4), complete: true, sealed: servers(1), holders: servers(1, 2) },
    },
    {
      name: 'a complete SEAL at once, whoever does not answer',
      replies: [reply(500, { seal: { ...sealOf(500, 4), complete: true } }), 0],
      expect: { length: 500, sealed: servers(1), missing: servers(2) },
    },
    {
      name: 'of two SEALs of one epoch the longer one',
      replies: [reply(500, { seal: sealOf(500, 7) }), reply(600, { seal: sealOf(600, 7) })],
      expect: { length: 600, sealed: servers(2) },
    },
    {
      name: 'a member without the block is no source',
      replies: [UNKNOWN, reply(500), reply(400)],
      expect: { length: 500, holders: servers(2, 3), absent: servers(1) },
    },
  ];
  for (const { name, replies, waitedMs = 0, expect } of table) {
    test(name, () => {
      const decision: Record<string, unknown> = { ...decide(replies, { waitedMs }) };
      for (const [key, value] of Object.entries(expect)) assert.equal(decision[key], value, key);
    });
  }

  test('who denies what was sealed is left alone, with an alarm; the others are sealed', () => {
    const above = decide([
      reply(900, { provenLength: 800 }),
      reply(500, { seal: sealOf(500, 4) }),
      reply(400),
    ]) as Sealed;
    assert.match(
      above.alarms.join(),
      /server 1 has acknowledged bytes up to 800, above the sealed length 500: nothing of it was cut/,
    );
    assert.equal([above.contradicting, above.holders, above.sealed], [servers(1), servers(2, 3), servers(2)]);
    const other = decide([
      reply(500, { digest: digestOf(500, 1) }),
      reply(500, { seal: sealOf(500, 4) }),
    ]) as Sealed;
    assert.match(other.alarms.join(), /server 1 has other records than were sealed/);
    assert.equal(other.contradicting, servers(1));
    const differ = decide([reply(500), reply(500, { digest: digestOf(500, 1) })]) as Sealed;
    assert.match(differ.alarms.join(), /different digests/);
  });

  test('what a SEAL has as lost and a late member holds is sealed once more, with it', () => {
    const hole = { start: 200, end: 300 };
    const seal = { ...sealOf(500, 4), lost: 1 };
    const withHole = reply(500, { seal, digest: seal.digest, holes: [hole] });
    const healed = decide([withHole, withHole, reply(500)]) as Sealed;
    assert.equal([healed.length, healed.slots, healed.epoch], [500, 5, EPOCH]);
    assert.equal([healed.digest, healed.sealed, healed.holders[0]], [digestOf(500), [], servers(3)[0]]);
    for (const late of [
      reply(500, { holes: [hole] }),
      reply(500, { holes: [{ start: 100, end: 300 }] }),
      reply(200),
    ]) {
      const adopted = decide([withHole, withHole, late]) as Sealed;
      assert.equal([adopted.digest, adopted.sealed], [seal.digest, servers(1, 2)]);
    }
  });

  test('a SEAL is not adopted where a replica reads again what it has as lost', () => {
    const hole = { start: 200, end: 400 };
    const seal = { ...sealOf(500, 4), digest: digestOf(500, 1), lost: 2, complete: true };
    const before = reply(500, { seal, digest: seal.digest, holes: [hole] });
    const adopted = decide([before, before]) as Sealed;
    assert.equal([adopted.digest, adopted.sealed, adopted.lost], [seal.digest, servers(1, 2), 2]);
    const all = decide([before, reply(500, { seal })]) as Sealed;
    assert.equal([all.digest, all.epoch, all.holders[0]], [digestOf(500), EPOCH, servers(2)[0]]);
    assert.equal([all.sealed, all.lost, all.contradicting], [[], 0, []]);
    // Of two that are lost one reads: who has it finds out the digest that the others must have.
    const half = reply(500, { seal, digest: undefined, holes: [{ start: 300, end: 400 }] });
    const some = decide([before, half]) as Sealed;
    assert.equal([some.digest, some.sealed, some.holders], [undefined, [], servers(2, 1)]);
  });

  test('who was sealed with records lost takes the SEAL of one that was sealed with them', () => {
    const lossy = { ...sealOf(500, 8), digest: digestOf(500, 1), lost: 1 };
    const gaveUp = reply(500, { seal: lossy, digest: lossy.digest, holes: [{ start: 200, end: 300 }] });
    const seal = sealOf(500, 4);
    const decision = decide([gaveUp, reply(500, { seal }), reply(500, { seal })]) as Sealed;
    assert.equal([decision.digest, decision.epoch, decision.lost], [seal.digest, seal.epoch, 0]);
    assert.equal([decision.contradicting, decision.alarms], [[], []]);
    assert.equal([decision.sealed, decision.holders], [servers(2, 3), servers(2, 3, 1)]);
  });

  test('records may be sealed as lost only when nobody is left who might have them', () => {
    const damaged = reply(500, { holes: [{ start: 200, end: 300 }] });
    const { patienceMs, deadMs } = SEAL_TIMES;
    assert.ok((decide([damaged, damaged]) as Sealed).mayLose);
    assert.not((decide([damaged, damaged, patienceMs], { waitedMs: patienceMs }) as Sealed).mayLose);
    assert.ok((decide([damaged, damaged, deadMs], { waitedMs: deadMs }) as Sealed).mayLose);
  });

  test('what a disk fails to read may be sealed as lost only after the dead timer', () => {
    const damaged = reply(500, { holes: [{ start: 200, end: 300 }] });
    const { deadMs } = SEAL_TIMES;
    assert.not((decide([damaged, damaged], { waitedMs: deadMs - 1 }) as Sealed).mayLoseUnread);
    assert.ok((decide([damaged, damaged], { waitedMs: deadMs }) as Sealed).mayLoseUnread);
    assert.not((decide([damaged, damaged, deadMs - 1], { waitedMs: deadMs }) as Sealed).mayLoseUnread);
  });

  test('it tells how long it has to wait, and waits no longer', () => {
    const times = { patienceMs: 300, deadMs: 6000 };
    const forMs = (answers: readonly Answer[], waitedMs: number): number | undefined => {
      const decision = decide(answers, { waitedMs, times });
      return decision.kind === 'wait' ? decision.forMs : undefined;
    };
    const recovered = reply(500, { clean: false });
    assert.is(forMs([reply(500), 100], 100), 200);
    assert.is(forMs([recovered, 100], 100), 5900);
    assert.is(forMs([recovered, 5000, 1000], 5000), 5000, 'all of them have to be dead');
    assert.is(forMs([recovered, 6000, 6000], 6000), undefined);
    assert.is(forMs([UNKNOWN, 9000], 9000), Number.POSITIVE_INFINITY, 'a dead one may be the only one');
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
          const first = decide(replies) as Sealed;
          assert.ok(first.length >= acked);
          assert.is(first.length, Math.max(...members.map(({ has }) => has)) * 100);
          const source = replies[first.holders[0]! - 1]!;
          assert.ok(source.validLength >= first.length, 'the first source is long enough');
          assert.is(first.slots, first.length / 100);
          // The first leader seals some members and is gone: the next one asks again.
          const again = replies.map((each, i) =>
            i < sealedBefore ? reply(first.length, { seal: sealOf(first.length, EPOCH) }) : each,
          );
          const second = decide(again, { epoch: epochOf(EPOCH + 1) }) as Sealed;
          assert.is(second.length, first.length);
          if (sealedBefore > 0) assert.is(second.epoch, EPOCH);
        },
      ),
      { numRuns: 500 },
    );
  });
});
