import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { type BlockId, blockId, epochOf, type ServerId } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { tableDigest } from '../../common/wire/table-digest.ts';
import { type CopyCounts, countCopies, noCopies } from '../../nameserver/block-facts.ts';
import { BlockMap, Effect } from '../../nameserver/block-map.ts';
import { SEGMENT_ROWS, SEGMENTS_PER_PAGE, Whole } from '../../nameserver/block-page.ts';
import { decodeSegment, encodeSegment } from '../../nameserver/map-segment.ts';
import { describe } from '../kit/suite.ts';
import { entryOf, servers } from './entries.ts';
import { NaiveMap } from './naive-map.ts';

const [s1, s2, s3, s4, s5] = servers(1, 2, 3, 4, 5) as [ServerId, ServerId, ServerId, ServerId, ServerId];
const B = blockId(0x2_0000);

describe('block map', (test) => {
  test('a block is opening, open, unsealed and sealed as its members report', () => {
    const map = new BlockMap();
    map.open(B, { version: { epoch: epochOf(1), n: 1 }, members: [s1, s2, s3], targetReplicas: 3 });
    assert.is(map.facts(B)?.whole, Whole.OPENING);
    assert.equal(map.locate(B), { opsPrimary: 1, members: [s1, s2, s3] });
    assert.equal(map.counts, { total: 1, open: 1, sealed: 0, awaitingSeal: 0, suspect: 0 });
    map.report(s2, entryOf());
    assert.is(map.facts(B)?.whole, Whole.OPEN);
    assert.equal(map.locate(B)?.members, [s2, s1, s3], 'who has reported it comes first');
    for (const server of [s1, s3]) map.report(server, entryOf());
    assert.is(map.report(s1, entryOf({ length: 9000 })), 0, 'growing is no change');
    assert.is(map.facts(B)?.length, 9000);
    assert.ok(map.report(s3, entryOf({ state: BlockState.RECOVERED, length: 9000 })) & Effect.UNSEALED);
    for (const server of [s1, s2, s3]) {
      assert.is(map.facts(B)?.whole, Whole.UNSEALED);
      assert.ok(map.unsettled.has(B));
      map.sealed(B, server, 8000);
    }
    assert.is(map.facts(B)?.whole, Whole.SEALED);
    assert.is(map.facts(B)?.length, 8000);
    assert.is(map.unsettled.size, 0);
    assert.equal(map.counts, { total: 1, open: 0, sealed: 1, awaitingSeal: 0, suspect: 0 });
    map.forget(B);
    assert.is(map.locate(B), undefined);
    assert.equal(map.counts, { total: 0, open: 0, sealed: 0, awaitingSeal: 0, suspect: 0 });
  });

  test('a sealed block whose third member has not reported is sealed, and lacks a replica', () => {
    const map = new BlockMap();
    for (const server of [s1, s2]) map.report(server, entryOf({ state: BlockState.SEALED, length: 8192 }));
    assert.is(map.facts(B)?.whole, Whole.SEALED);
    assert.equal(countsOf(map), { ...noCopies(3), byCopies: [0, 0, 1, 0], short: 1, absent: 1 });
    map.report(s3, entryOf({ state: BlockState.SEALED, length: 8192 }));
    assert.equal(countsOf(map), { ...noCopies(3), byCopies: [0, 0, 0, 1] });
    assert.equal(countsOf(map, s2, s1), { ...noCopies(3), byCopies: [0, 1, 0, 0], short: 1, absent: 2 });
    map.report(s3, entryOf({ state: BlockState.SEALED, length: 8192, flags: BlockFlag.SUSPECT }));
    assert.equal(countsOf(map), { ...noCopies(3), byCopies: [0, 0, 1, 0], short: 1, absent: 1 });
    assert.is(map.counts.suspect, 1);
    assert.equal(map.locate(B)?.members, [s1, s2, s3], 'the suspect one comes last');
  });

  test('how many copies are wanted: what a replica guesses that cannot be read counts for no longer than it must', () => {
    const guess = entryOf({
      ...{ state: BlockState.RECOVERED, flags: BlockFlag.SUSPECT | BlockFlag.QUARANTINED },
      ...{ n: 2, members: [2, 3], targetReplicas: 2 },
    });
    const known = entryOf({ state: BlockState.SEALED, length: 8192, n: 2, members: [2, 3] });
    const first = new BlockMap();
    first.report(s1, guess);
    assert.is(first.facts(B)?.targetReplicas, 2);
    first.report(s2, known);
    assert.is(first.facts(B)?.targetReplicas, 3);
    const last = new BlockMap();
    last.report(s2, entryOf());
    last.report(s1, guess);
    assert.is(last.facts(B)?.targetReplicas, 3, 'also of a newer configuration');
  });

  test('what a lost server was writing and others have sealed is as good as sealed, until it is waited for again', () => {
    const map = new BlockMap();
    for (const server of [s1, s2, s3]) map.report(server, entryOf({ length: 8192 }));
    assert.is(map.waitForSeals(s3, false), 0, 'nobody has sealed it');
    assert.is(map.facts(B)?.whole, Whole.OPEN);
    map.sealed(B, s1, 8192);
    assert.is(map.facts(B)?.whole, Whole.UNSEALED);
    map.sealed(B, s2, 8192);
    assert.is(map.facts(B)?.whole, Whole.SEALED);
    assert.not(map.unsettled.has(B));
    assert.not(map.report(s3, entryOf({ length: 8192, state: BlockState.RECOVERED })) & Effect.UNSEALED);
    assert.is(map.waitForSeals(s3, false), 0);
    assert.is(map.waitForSeals(s3, true), 1);
    assert.is(map.facts(B)?.whole, Whole.UNSEALED);
    assert.ok(map.unsettled.has(B));
    assert.is(map.waitForSeals(s3, false), 1, 'also of one that it has reported before');
    assert.is(map.facts(B)?.whole, Whole.SEALED);
    map.sealed(B, s3, 8192);
    assert.is(map.waitForSeals(s3, true), 0);
    assert.is(map.facts(B)?.whole, Whole.SEALED);
  });

  test('a configuration that had only begun on a server that is lost for good is none (seeds 400364, 400756)', () => {
    const sealed = { state: BlockState.SEALED, length: 8192 };
    const first = entryOf({ ...sealed, seq: 3 });
    const without3 = entryOf({ ...sealed, n: 2, members: [1, 2], seq: 5 });
    const begun = entryOf({ ...sealed, n: 3, seq: 6 });
    /** Server 1 has begun to take server 3 in again when it dies; server 2 is the other one that went on without it. */
    const begunOn1 = () => {
      const map = new BlockMap({ minWrite: 2 });
      for (const server of [s1, s2, s3]) map.report(server, first);
      for (const server of [s1, s2]) map.report(server, without3);
      map.report(s1, begun);
      assert.equal([staleOn(map), map.facts(B)!.version.n], [[s2, s3], 3], 'while it may come back');
      return map;
    };
    const isBack = (map: BlockMap) => {
      const { version, seq, opsPrimary, replicas } = map.facts(B)!;
      assert.equal([version, seq, opsPrimary], [without3.version, 5, s1]);
      const members = replicas
        .filter(({ member }) => member)
        .map(({ server, state }) => [server, state !== 0]);
      assert.equal(
        new Map(members as [ServerId, boolean][]),
        new Map([
          [s2, true],
          [s1, false],
        ]),
      );
      assert.equal(staleOn(map), [s3], 'what went on without it, it still lacks');
      assert.equal(
        replicas.filter(({ behind }) => behind),
        [],
      );
    };
    const map = begunOn1();
    assert.equal(map.lose(s1), [B]);
    isBack(map);
    map.report(s2, begun);
    assert.equal([staleOn(map), map.facts(B)!.version.n], [[s3], 3], 'it came to server 2 after all');

    // A NameServer that starts again knows from its checkpoint that they are older, and how old from their reports.
    const loaded = reloaded(begunOn1(), 2);
    assert.equal(loaded.lose(s1), []);
    loaded.report(s3, first);
    assert.equal(staleOn(loaded), [s2, s3], 'server 2 may hold anything');
    loaded.report(s2, without3);
    isBack(loaded);
  });

  test('operations that one of those lacks that count again are fetched', () => {
    const sealed = { state: BlockState.SEALED, length: 8192 };
    const map = new BlockMap({ minWrite: 2 });
    for (const server of [s1, s2, s3]) map.report(server, entryOf({ ...sealed, seq: server === s3 ? 3 : 5 }));
    map.report(s1, entryOf({ ...sealed, n: 2, seq: 6 }));
    assert.equal(map.lose(s1), [B]);
    assert.equal(staleOn(map), []);
    const behind = map.facts(B)!.replicas.filter((replica) => replica.behind);
    assert.equal([behind.map(({ server }) => server), map.facts(B)!.seq], [[s3], 5]);
  });

  test('a configuration that may have been in force stays the newest, also where nobody is left who holds it', () => {
    const sealed = { state: BlockState.SEALED, length: 8192 };
    const first = entryOf({ ...sealed, seq: 3 });
    const begun = entryOf({ ...sealed, n: 2, seq: 4 });
    const cases: Record<string, (map: BlockMap) => void> = {
      'no member of it is left': (map) => {
        for (const server of [s1, s2])
          map.report(server, entryOf({ ...sealed, n: 2, members: [1, 2], seq: 4 }));
      },
      'another member has not said what it holds': (map) => {
        map.report(s1, begun);
        map.absent(B, s2);
      },
      'one of the others cannot be read': (map) => {
        map.report(s1, begun);
        map.report(s2, entryOf({ ...sealed, flags: BlockFlag.QUARANTINED }));
      },
      'one of the others waits for its seal': (map) => {
        map.report(s1, begun);
        map.report(s2, entryOf({ state: BlockState.RECOVERED, length: 8192 }));
      },
    };
    for (const [why, play] of Object.entries(cases)) {
      const map = new BlockMap({ minWrite: 3 });
      for (const server of [s1, s2, s3]) map.report(server, first);
      play(map);
      map.lose(s1);
      if (why === 'no member of it is left') map.lose(s2);
      assert.is(map.facts(B)!.version.n, 2, why);
      assert.ok(staleOn(map).includes(s3), why);
    }
    // What was acknowledged on one server alone went with it.
    const one = new BlockMap({ minWrite: 1 });
    for (const server of [s1, s2, s3]) one.report(server, first);
    one.report(s1, begun);
    assert.equal([one.lose(s1), staleOn(one)], [[], [s2, s3]]);
  });

  test('a replica with older operations is behind until it has caught up', () => {
    const map = new BlockMap();
    for (const server of [s1, s2, s3]) map.report(server, entryOf({ seq: 4 }));
    assert.ok(map.report(s1, entryOf({ seq: 6 })) & Effect.BEHIND);
    const behind = () => [s1, s2, s3].filter((server) => map.behindOf(server).includes(B));
    assert.equal(behind(), [s2, s3]);
    assert.ok(map.report(s2, entryOf({ seq: 6 })) & Effect.BEHIND, 'another one still is');
    map.report(s3, entryOf({ seq: 5 }));
    assert.equal(behind(), [s3]);
    map.caughtUp(B, s3, 5);
    assert.equal(behind(), [s3]);
    map.caughtUp(B, s3, 6);
    assert.equal(behind(), []);
  });

  test('a replica that lacks what it had is stale until it has it again; one that never had it is not (seed 55)', () => {
    const goneBack = (map: BlockMap) =>
      map.facts(B)!.replicas.flatMap(({ server, goneBack, stale, behind }) => {
        assert.is(goneBack, stale && behind);
        return goneBack ? [server] : [];
      });
    const lost = () => {
      const map = new BlockMap();
      for (const server of [s1, s2, s3]) map.report(server, entryOf({ seq: 4 }));
      map.report(s1, entryOf({ seq: 5 }));
      assert.not(map.report(s2, entryOf({ seq: 4 })) & Effect.GONE_BACK, 'it is only behind');
      map.report(s2, entryOf({ seq: 5 }));
      map.beginReport(s1);
      assert.ok(map.report(s1, entryOf({ seq: 4 })) & Effect.GONE_BACK);
      assert.equal([goneBack(map), staleOn(map)], [[s1], [s1]]);
      return map;
    };
    const again = lost();
    assert.not(again.report(s1, entryOf({ seq: 4 })) & Effect.GONE_BACK, 'it is no news');
    assert.equal(goneBack(again), [s1]);
    const loaded = reloaded(again);
    loaded.report(s1, entryOf({ seq: 3 }));
    assert.equal(goneBack(loaded), [s1], 'a NameServer that starts again knows it');

    const reported = lost();
    reported.report(s1, entryOf({ seq: 5 }));
    assert.equal([goneBack(reported), staleOn(reported)], [[], []]);
    const fetched = lost();
    fetched.caughtUp(B, s1, 4);
    assert.equal(goneBack(fetched), [s1]);
    fetched.caughtUp(B, s1, 5);
    assert.equal([goneBack(fetched), staleOn(fetched)], [[], []]);

    // In a configuration that it does not hold it is stale as all are, and not behind.
    const superseded = lost();
    superseded.report(s2, entryOf({ seq: 6, n: 2 }));
    superseded.report(s2, entryOf({ seq: 7, n: 2 }));
    assert.equal([goneBack(superseded), staleOn(superseded)], [[], [s1, s3]]);
    assert.equal(
      [s1, s3].map((server) => superseded.behindOf(server)),
      [[], []],
    );
  });

  test('a replica with an older configuration is stale until it holds the newest and belongs to it', () => {
    const map = new BlockMap();
    for (const server of [s1, s2, s3]) map.report(server, entryOf({ seq: 4 }));
    const stale = () => [s1, s2, s3].filter((server) => map.staleOf(server).includes(B));
    assert.equal(stale(), []);
    map.report(s2, entryOf({ seq: 2, n: 2, members: [1, 2] }));
    assert.equal(stale(), [s1, s3], 'version before seq');
    assert.equal(
      map
        .facts(B)!
        .replicas.filter(({ member }) => member)
        .map(({ server }) => server),
      [s1, s2],
    );
    map.report(s1, entryOf({ seq: 2, n: 2, members: [1, 2] }));
    assert.equal(stale(), [s3]);
    assert.ok(map.report(s3, entryOf({ seq: 9, members: [1, 2, 3] })) & Effect.STALE, 'it comes back');
    assert.equal(stale(), [s3]);
    map.configured(B, {
      version: { epoch: epochOf(1), n: 3 },
      members: [s1, s2, s3],
      opsPrimary: s2,
      seq: 11,
    });
    assert.equal(stale(), []);
    assert.is(map.facts(B)!.opsPrimary, s2);
    assert.is(map.facts(B)!.seq, 11);
    map.configured(B, { version: { epoch: epochOf(1), n: 2 }, members: [s1], opsPrimary: s1, seq: 2 });
    assert.equal(stale(), [], 'an older configuration changes nothing');
    map.report(s3, entryOf({ state: BlockState.DROPPED, n: 3 }));
    assert.equal(stale(), []);
  });

  test('a block that never held anything is gone with the last replica that is dropped, and no other block is', () => {
    const [s1, s2] = servers(1, 2) as [ServerId, ServerId];
    const { block } = entryOf();
    const of = (state: BlockState, length: number) => entryOf({ state, length, members: [1, 2] });
    for (const [state, length, isGone] of [
      [BlockState.SEALED, 4096, true],
      [BlockState.SEALED, 8192, false],
      [BlockState.OPEN, 4096, false],
    ] as const) {
      const map = new BlockMap();
      for (const server of [s1, s2]) map.report(server, of(state, length));
      map.report(s1, of(BlockState.DROPPED, length));
      assert.ok(map.has(block), 'one is left');
      map.report(s2, of(BlockState.DROPPED, length));
      assert.is(map.has(block), !isGone);
      assert.is(map.unsettled.has(block), !isGone);
      assert.is(map.counts.total, isGone ? 0 : 1);
    }
    const away = new BlockMap();
    for (const server of [s1, s2]) away.report(server, of(BlockState.SEALED, 4096));
    away.absent(block, s1);
    away.absent(block, s2);
    assert.ok(away.has(block), 'what a disk lost was not dropped');
  });

  test('a block that was retired is gone with its last replica, also where nobody heard of its seal', () => {
    const open = entryOf({ members: [1, 2, 3] });
    const retired = entryOf({ state: BlockState.DROPPED, flags: BlockFlag.RETIRED, members: [] });
    const map = new BlockMap();
    for (const server of [s1, s2]) map.report(server, open);
    map.report(s1, retired);
    assert.ok(map.has(B), 'one is left');
    map.report(s2, retired);
    assert.not(map.has(B));
    assert.equal([map.unsettled.size, map.counts.total, map.counts.awaitingSeal], [0, 0, 0]);
    map.report(s2, retired);
    assert.not(map.has(B), 'said twice');

    // Whoever was away hears it in a whole report: from a member, or from one that is none any more.
    for (const last of [s2, s4]) {
      for (const server of [s1, s2]) map.report(server, open);
      map.lose(s3);
      for (const server of [s1, s2]) {
        map.beginReport(server);
        map.endReport(server);
      }
      assert.is(map.facts(B)?.whole, Whole.UNSEALED);
      map.beginReport(last);
      map.report(last, retired);
      map.endReport(last);
      assert.not(map.has(B));
      assert.is(map.counts.awaitingSeal, 0);
    }
  });

  test('a replica that is about to be left out counts as stale at once, whatever it reports', () => {
    const map = new BlockMap();
    for (const server of [s1, s2, s3]) map.report(server, entryOf({}));
    map.doubt(B, s3);
    assert.equal(map.staleOf(s3), [B]);
    map.report(s3, entryOf({}));
    assert.equal(map.staleOf(s3), [B]);
    const facts = { version: { epoch: epochOf(1), n: 2 }, opsPrimary: s1, seq: 2 };
    map.configured(B, { ...facts, members: [s1, s2] });
    assert.equal(map.staleOf(s3), [B], 'it is no member');
    assert.equal(map.staleServers, [s3]);
    map.forget(B);
    assert.equal(map.staleServers, []);
  });

  test('what a whole report does not confirm is gone; a member is expected again', () => {
    const map = new BlockMap();
    const other = blockId(0x2_0401);
    for (const server of [s1, s2, s3, s4]) map.report(server, entryOf({ state: BlockState.SEALED }));
    map.report(s4, entryOf({ block: other, members: [] }));
    map.beginReport(s4);
    map.beginReport(s3);
    assert.equal(
      map.facts(B)?.replicas.map(({ confirmed }) => confirmed),
      [true, true, false, false],
    );
    assert.is(map.endReport(s4), 2);
    assert.is(map.facts(other), undefined, 'nobody holds it');
    map.report(s3, entryOf({ state: BlockState.SEALED }));
    assert.is(map.endReport(s3), 0);
    map.beginReport(s2);
    assert.is(map.endReport(s2), 1);
    const facts = map.facts(B)!;
    assert.equal(
      facts.replicas.map(({ server, state, member }) => [server, state, member]),
      [
        [s1, BlockState.SEALED, true],
        [s2, 0, true],
        [s3, BlockState.SEALED, true],
      ],
    );
    assert.is(facts.opsPrimary, s1);
    assert.equal(map.locate(B)?.members, [s1, s3, s2]);
  });

  test('ids at every edge of a page, and more replicas than fit the columns', () => {
    const map = new BlockMap();
    const ids = [0x2_0000, 0x2_03ff, 0x2_0400, 0x2_ffff, 0x3_0000, 0xffff_ffff].map(blockId);
    for (const block of ids)
      for (const server of [s1, s2, s3, s4, s5]) map.report(server, entryOf({ block }));
    for (const block of ids) assert.equal(map.locate(block)?.members, [s1, s2, s3, s4, s5]);
    assert.is(map.counts.total, ids.length);
    for (let id = 6; id <= 15; id++) assert.is(map.report(servers(id)[0]!, entryOf()) & Effect.OVERFULL, 0);
    assert.ok(map.report(servers(16)[0]!, entryOf()) & Effect.OVERFULL);
    for (const id of [2, 15, 1, 7]) map.absent(B, servers(id)[0]!);
    assert.equal(
      map
        .facts(B)!
        .replicas.filter(({ state }) => state !== 0)
        .map(({ server }) => server)
        .sort((a, b) => a - b),
      servers(3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14),
    );
    assert.throws(() =>
      map.open(B, { version: { epoch: epochOf(1), n: 1 }, members: [s1], targetReplicas: 3 }),
    );
  });

  test('a full page takes 22 bytes a block and 4 a replica', () => {
    const map = new BlockMap();
    map.report(s1, entryOf({ block: 0x2_ffff }));
    assert.is(map.bytes / 65_536, 22 + 3 * 4);
  });

  const SERVERS = servers(1, 2, 3, 4, 5);
  const BLOCKS = [0x2_0000, 0x2_0001, 0x2_0400, 0x5_ffff].map(blockId);
  const server = fc.constantFrom(...SERVERS);
  const block = fc.constantFrom(...BLOCKS);
  const memberSet = fc.uniqueArray(server, { minLength: 1, maxLength: 5 });
  const action = fc.oneof(
    {
      weight: 10,
      arbitrary: fc.record({
        kind: fc.constant('report' as const),
        server,
        block,
        state: fc.constantFrom(1, 1, 2, 3, 4, 4, 5),
        flags: fc.constantFrom(0, 0, 0, 1, 2, 4),
        seq: fc.integer({ min: 0, max: 4 }),
        n: fc.constantFrom(1, 1, 1, 2),
        // A version has one member set: it follows from the version.
        length: fc.oneof(fc.constant(SUPERBLOCK_BYTES), fc.integer({ min: 4096, max: 9000 })),
        generation: fc.constantFrom(0, 0, 0, 1, 2),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom('begin' as const, 'end' as const), server }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('open' as const), block, members: memberSet }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constantFrom('forget' as const, 'restart' as const), block }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constantFrom('sealed' as const, 'caughtUp' as const, 'absent' as const),
        block,
        server,
        seq: fc.integer({ min: 0, max: 4 }),
      }),
    },
  );

  test('replicas sealed at different lengths wait for their seal again, until they are alike or alone', () => {
    const map = new BlockMap();
    const [s1, s2, s3] = servers(1, 2, 3) as [ServerId, ServerId, ServerId];
    const report = (server: ServerId, length: number, state: BlockState = BlockState.SEALED) =>
      map.report(server, entryOf({ state, length }));
    report(s1, 7000);
    report(s2, 9000, BlockState.RECOVERED);
    report(s2, 7000);
    report(s3, 8000);
    const lengths = () => map.facts(B)!.replicas.map(({ sealedAt }) => sealedAt);
    assert.equal([map.facts(B)?.whole, lengths()], [Whole.UNSEALED, [7000, 7000, 8000]]);
    assert.ok(map.unsettled.has(B));
    report(s1, 8000);
    assert.is(map.facts(B)?.whole, Whole.UNSEALED);
    map.sealed(B, s2, 8000);
    assert.equal([map.facts(B)?.whole, map.facts(B)?.length], [Whole.SEALED, 8000]);
    assert.equal(lengths(), [undefined, undefined, undefined]);
    report(s3, 7000);
    assert.is(map.facts(B)?.whole, Whole.UNSEALED);
    map.absent(B, s3);
    assert.equal([map.facts(B)?.whole, map.facts(B)?.length], [Whole.SEALED, 8000]);
  });

  test('it agrees with a map of objects after any history, and a checkpoint keeps it', () => {
    const membersOf = (n: number) => (n === 1 ? [1, 2, 3] : [2, 3, 4, 5]);
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        let map = new BlockMap();
        const naive = new NaiveMap();
        for (const step of actions) {
          switch (step.kind) {
            case 'report': {
              const targetReplicas = (step.flags & BlockFlag.QUARANTINED) === 0 ? 3 : 2;
              const members = membersOf(step.n);
              const entry = entryOf({ ...step, state: step.state as BlockState, members, targetReplicas });
              map.report(step.server, entry);
              naive.report(step.server, entry);
              break;
            }
            case 'open': {
              if (map.has(step.block)) break;
              const version = { epoch: epochOf(1), n: 1 };
              map.open(step.block, { version, members: step.members, targetReplicas: 3 });
              naive.open(step.block, version, step.members, 3);
              break;
            }
            case 'begin':
              map.beginReport(step.server);
              naive.begin(step.server);
              break;
            case 'end':
              map.endReport(step.server);
              naive.end(step.server);
              break;
            case 'forget':
              map.forget(step.block);
              naive.blocks.delete(step.block);
              break;
            case 'sealed': {
              const known = naive.blocks.get(step.block);
              const replica = known?.replicas.get(step.server);
              map.sealed(step.block, step.server, 7000);
              if (!known || !replica) break;
              replica.state = BlockState.SEALED;
              if (known.generation === 0) naive.sealed(known, step.server, 7000);
              naive.settle(known);
              break;
            }
            case 'caughtUp': {
              map.caughtUp(step.block, step.server, step.seq);
              const known = naive.blocks.get(step.block);
              const replica = known?.replicas.get(step.server);
              if (!known || !replica || step.seq < known.seq) break;
              if (replica.behind) replica.stale = false;
              replica.behind = false;
              break;
            }
            case 'absent':
              map.absent(step.block, step.server);
              naive.lose(step.block, step.server);
              break;
            case 'restart':
              map = reloaded(map);
              for (const { replicas } of naive.blocks.values())
                for (const replica of replicas.values())
                  Object.assign(replica, { confirmed: false, sealedAt: undefined });
              break;
          }
          agree(map, naive);
        }
      }),
      { numRuns: 400 },
    );
  });
});

function countsOf(map: BlockMap, ...away: number[]): CopyCounts {
  const isAway = new Uint8Array(0x1_0000);
  for (const id of away) isAway[id] = 1;
  const counts = noCopies(3);
  for (const page of map.pages()) countCopies(page, isAway, counts);
  return counts;
}

/** As a restart sees it: every segment written and read back. */
const staleOn = (map: BlockMap): ServerId[] =>
  [s1, s2, s3].filter((server) => map.staleOf(server).includes(B));

function reloaded(map: BlockMap, minWrite = 1): BlockMap {
  const next = new BlockMap({ minWrite });
  for (const page of map.pages()) {
    for (let segment = 0; segment < SEGMENTS_PER_PAGE; segment++) {
      const bytes = encodeSegment(page, segment);
      if (bytes === undefined) continue;
      const into = next.pageForLoad(page.number);
      assert.ok(decodeSegment(into, segment, bytes));
      next.loaded(into, segment * SEGMENT_ROWS, (segment + 1) * SEGMENT_ROWS);
    }
  }
  return next;
}

function agree(map: BlockMap, naive: NaiveMap): void {
  const counts = { total: 0, open: 0, sealed: 0, awaitingSeal: 0, suspect: 0 };
  const unsettled: BlockId[] = [];
  for (const [block, expected] of naive.blocks) {
    const facts = map.facts(block)!;
    assert.ok(facts, `block ${block} is known`);
    const whole = naive.wholeOf(expected);
    assert.is(facts.whole, Whole[whole]);
    assert.is(facts.seq, expected.seq);
    assert.equal(facts.version, expected.version);
    assert.is(facts.length, expected.length);
    assert.is(facts.generation, expected.generation);
    const isOutdated = [...expected.replicas.values()].some(({ outdated }) => outdated);
    assert.is(map.outdated.has(block), isOutdated);
    assert.is(facts.targetReplicas, expected.target);
    assert.is(facts.opsPrimary, expected.opsPrimary);
    const byId = <T extends { server: ServerId }>(a: T, b: T) => a.server - b.server;
    assert.equal(
      [...facts.replicas].sort(byId),
      [...expected.replicas]
        .map(([server, { generation: _, ...replica }]) => {
          const goneBack = replica.stale && replica.behind;
          return { server, ...replica, goneBack, lost: false };
        })
        .sort(byId),
    );
    assert.equal(
      map.locate(block)!.members.sort((a, b) => a - b),
      [...expected.replicas.keys()].sort((a, b) => a - b),
    );
    counts.total++;
    if (whole === 'OPEN' || whole === 'OPENING') counts.open++;
    else if (whole === 'SEALED') counts.sealed++;
    else counts.awaitingSeal++;
    if ([...expected.replicas.values()].some(({ good }) => !good)) counts.suspect++;
    if (whole !== 'SEALED') unsettled.push(block);
  }
  assert.equal(map.counts, counts);
  assert.equal([...map.unsettled].sort(), unsettled.sort());
  for (const server of servers(1, 2, 3, 4, 5)) {
    const stale = [...naive.blocks].filter(([, { replicas }]) => {
      const replica = replicas.get(server);
      return replica !== undefined && replica.state !== 0 && (replica.stale || !replica.member);
    });
    assert.equal([...map.staleOf(server)].sort(), stale.map(([block]) => block).sort());
    const behind = [...naive.blocks].filter(([, { replicas }]) => replicas.get(server)?.behind === true);
    assert.equal([...map.behindOf(server)].sort(), behind.map(([block]) => block).sort());
    const held = [...naive.blocks].flatMap(([block, { replicas }]) => {
      const replica = replicas.get(server);
      if (replica === undefined || replica.state === 0) return [];
      const flags = replica.good ? 0 : replica.readable ? BlockFlag.SUSPECT : BlockFlag.QUARANTINED;
      return [{ block, state: replica.state as BlockState, flags }];
    });
    assert.is(map.digestOf(server), tableDigest(held));
  }
  assert.equal(countsOf(map, 2), naiveCounts(naive, 2));
}

function naiveCounts(naive: NaiveMap, away: number): CopyCounts {
  const counts = noCopies(3);
  for (const block of naive.blocks.values()) {
    if (naive.wholeOf(block) === 'OPENING') continue;
    const isEmpty = block.generation === 0 && block.length === SUPERBLOCK_BYTES;
    if (naive.wholeOf(block) === 'SEALED' && isEmpty) continue;
    const held = [...block.replicas].filter(([, { state }]) => state !== 0);
    const isStale = ([, { stale, member }]: (typeof held)[number]) => stale || !member;
    const good = held.filter((one) => one[0] !== away && one[1].good && one[1].confirmed && !isStale(one));
    counts.byCopies[Math.min(3, good.length)]!++;
    if (good.length < block.target) counts.short++;
    counts.absent += [...block.replicas.values()].filter(({ member }) => member).length - good.length;
    counts.stale += held.filter((one) => one[0] !== away && isStale(one)).length;
    counts.quarantined += held.filter(([, { readable }]) => !readable).length;
  }
  return counts;
}
