import fc from 'fast-check';
import * as assert from 'uvu/assert';
import type { ServerId } from '../../common/ids.ts';
import { ELIGIBLE_HEARTBEAT_AGE_MS_MAX } from '../../common/limits.ts';
import { type Candidate, type PlacementAsk, place } from '../../nameserver/placement.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe } from '../kit/suite.ts';
import { servers } from './entries.ts';

const NONE: ReadonlySet<ServerId> = new Set();

function candidate(id: number, overrides: Partial<Candidate> = {}): Candidate {
  return {
    id: servers(id)[0]!,
    domain: `d${id}`,
    freeBytes: 1000,
    heartbeatAgeMs: 500,
    promised: true,
    ioHealthy: true,
    readOnly: false,
    slow: false,
    suspects: NONE,
    leaving: false,
    drained: false,
    ...overrides,
  };
}

function ask(list: readonly Candidate[], overrides: Partial<PlacementAsk> = {}): PlacementAsk {
  const random = new SeededRandom(1);
  return {
    primary: servers(1)[0]!,
    servers: list,
    avoid: NONE,
    replicas: 3,
    minWrite: 2,
    blockBytes: 100,
    random: () => random.float(),
    ...overrides,
  };
}

describe('placement', (test) => {
  test('three domains give three members, the primary first', () => {
    const placed = place(ask([candidate(2), candidate(3), candidate(1)]));
    assert.ok(placed.ok);
    assert.is(placed.members[0], 1);
    assert.equal([...placed.members].sort(), servers(1, 2, 3));
  });

  test('each reason to leave a server out, alone', () => {
    const reasons: [Partial<Candidate>, RegExp][] = [
      [{ heartbeatAgeMs: ELIGIBLE_HEARTBEAT_AGE_MS_MAX }, /server 2: no heartbeat for 2\.5 s/],
      [{ heartbeatAgeMs: Number.POSITIVE_INFINITY }, /server 2: not heard/],
      [{ promised: false }, /server 2: has not promised/],
      [{ readOnly: true }, /server 2: its disk takes no writes/],
      [{ ioHealthy: false }, /server 2: its disk is not healthy/],
      [{ freeBytes: 99 }, /server 2: only 99 bytes free/],
      [{ suspects: new Set(servers(1)) }, /server 2: it found server 1 slow/],
    ];
    for (const [fault, message] of reasons) {
      const placed = place(ask([candidate(1), candidate(2, fault)]));
      assert.not(placed.ok);
      if (!placed.ok) assert.match(placed.why, message);
    }
    assert.ok(place(ask([candidate(1), candidate(2, { suspects: new Set(servers(3)) })])).ok);
    assert.not(place(ask([candidate(1), candidate(2)], { avoid: new Set(servers(2)) })).ok);
    assert.not(place(ask([candidate(1, { suspects: new Set(servers(2)) }), candidate(2)])).ok);
    assert.ok(place(ask([candidate(1, { heartbeatAgeMs: 60_000 }), candidate(2)])).ok, 'who asks is alive');
    assert.not(place(ask([candidate(1, { readOnly: true }), candidate(2), candidate(3)])).ok);
    assert.not(place(ask([candidate(2), candidate(3)])).ok, 'the primary is not registered');
  });

  test('a slow disk is in a write set only where fewer than minWrite others are', () => {
    const slow = { slow: true };
    const membersOf = (list: readonly Candidate[], overrides: Partial<PlacementAsk> = {}) => {
      const placed = place(ask(list, overrides));
      return placed.ok ? [...placed.members].sort() : placed.domains;
    };
    assert.equal(membersOf([candidate(1), candidate(2), candidate(3, slow)]), servers(1, 2));
    assert.equal(membersOf([candidate(1), candidate(2, slow), candidate(3, slow)]), servers(1, 2, 3));
    assert.is(
      membersOf([candidate(1, slow), candidate(2), candidate(3)]),
      0,
      'other primaries do without it',
    );
    const silent = { heartbeatAgeMs: ELIGIBLE_HEARTBEAT_AGE_MS_MAX };
    assert.equal(membersOf([candidate(1, slow), candidate(2), candidate(3, silent)]), servers(1, 2));
    assert.equal(membersOf([candidate(1, slow)], { minWrite: 1 }), servers(1));
    const [one, two] = [candidate(1), candidate(2)];
    assert.is(membersOf([one, { ...two, readOnly: true }, candidate(3, { ...slow, readOnly: true })]), 1);
  });

  test('one domain holds one replica, however many servers it has', () => {
    const list = [1, 2, 3, 4].map((id) => candidate(id, { domain: id <= 3 ? 'rack a' : 'rack b' }));
    const placed = place(ask(list));
    assert.ok(placed.ok);
    assert.equal(placed.members, servers(1, 4));
    assert.equal(place(ask(list, { minWrite: 3 })), { ok: false, domains: 2, why: '' });
    assert.equal(place(ask([candidate(1)], { minWrite: 1 })), { ok: true, members: servers(1) });
  });

  test('more free space means more blocks, in proportion', () => {
    const list = [candidate(1), candidate(2, { freeBytes: 3000 }), candidate(3, { freeBytes: 1000 })];
    const random = new SeededRandom(7);
    const taken = new Map<number, number>();
    for (let i = 0; i < 4000; i++) {
      const placed = place(ask(list, { replicas: 2, random: () => random.float() }));
      assert.ok(placed.ok);
      taken.set(placed.members[1]!, (taken.get(placed.members[1]!) ?? 0) + 1);
    }
    const share = taken.get(2)! / 4000;
    assert.ok(share > 0.7 && share < 0.8, `three quarters of the free space took ${share}`);
  });

  const someServer = fc.record({
    domain: fc.constantFrom('a', 'b', 'c', 'd'),
    freeBytes: fc.constantFrom(0, 99, 100, 1e6, 1e12),
    heartbeatAgeMs: fc.constantFrom(0, 2499, 2500, 9000, Number.POSITIVE_INFINITY),
    promised: fc.boolean(),
    ioHealthy: fc.boolean(),
    readOnly: fc.boolean(),
    leaving: fc.boolean(),
    drained: fc.boolean(),
    suspects: fc.uniqueArray(fc.constantFrom(...servers(1, 2, 3, 4, 5, 6)), { maxLength: 2 }),
  });

  test('any cluster: K = min(replicas, eligible domains), members eligible and apart, else refused', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ fit: fc.boolean(), server: someServer }), { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        fc.uniqueArray(fc.constantFrom(...servers(2, 3, 4)), { maxLength: 2 }),
        fc.integer(),
        (drawn, replicas, minWrite, avoid, seed) => {
          const random = new SeededRandom(seed);
          const list = drawn.map(({ fit, server }, i) =>
            fit
              ? candidate(i + 1, { domain: server.domain })
              : candidate(i + 1, { ...server, suspects: new Set(server.suspects) }),
          );
          const placed = place(
            ask(list, { replicas, minWrite, avoid: new Set(avoid), random: () => random.float() }),
          );
          const primary = list[0]!;
          const usable = (server: Candidate) =>
            server.promised &&
            server.ioHealthy &&
            !server.readOnly &&
            !server.leaving &&
            !server.drained &&
            server.freeBytes >= 100 &&
            (server === primary
              ? server.heartbeatAgeMs < Number.POSITIVE_INFINITY && !server.suspects.has(server.id)
              : server.heartbeatAgeMs < 2500 &&
                !avoid.includes(server.id) &&
                !primary.suspects.has(server.id) &&
                !server.suspects.has(primary.id));
          const eligible = list.filter(usable);
          const domains = new Set(eligible.map((server) => server.domain)).size;
          const possible = eligible.includes(primary) ? Math.min(replicas, domains) : 0;
          assert.is(placed.ok, possible >= Math.max(minWrite, 1));
          if (!placed.ok) return;
          assert.is(placed.members[0], primary.id);
          assert.is(placed.members.length, possible);
          const chosen = placed.members.map((id) => list.find((server) => server.id === id)!);
          assert.ok(chosen.every((server) => eligible.includes(server)));
          assert.is(new Set(chosen.map((server) => server.domain)).size, chosen.length);
        },
      ),
      { numRuns: 500 },
    );
  });
});
