import * as assert from 'uvu/assert';
import type { PictureKey } from '../../../client/reader.ts';
import { TfsError } from '../../../common/errors.ts';
import type { BlockId, Cookie, FileId, ServerId, Slot } from '../../../common/ids.ts';
import type { ClearTracesReply, EraseRecords } from '../../../common/wire/erase.ts';
import { NameFlag } from '../../../common/wire/messages.ts';
import { type Found, type FoundPlace, findEverywhere } from '../../../tools/erase/find.ts';
import { type EraseOrder, erase } from '../../../tools/erase/run.ts';
import { ManualClock } from '../../kit/manual-clock.ts';
import { describe } from '../../kit/suite.ts';

const BLOCK = 0x2_0000 as BlockId;
const SHA1 = 'ab'.repeat(20);
type Cleared = ClearTracesReply['servers'][number];

const place = (slot: number, ...states: FoundPlace['names'][number]['state'][]): FoundPlace => ({
  block: BLOCK,
  slot: slot as Slot,
  names: states.map((state, i) => ({
    fileId: (i === 0 ? slot : 0x8000_0000 + 16 * slot + i) as FileId,
    cookie: 7 as Cookie,
    state,
  })),
});

/** It goes on by itself whenever something is waited for. */
class ImpatientClock extends ManualClock {
  override async sleep(delayMs: number): Promise<void> {
    this.advance(delayMs);
  }
}

/** A cluster whose answers the test says. */
class World {
  readonly clock = new ImpatientClock();
  found: Found[] = [{ places: [], untold: [] }];
  cleared: Cleared[][] = [[clear(1), clear(2)]];
  erases: (order: EraseRecords) => Promise<Slot[]> = async () => [];
  readonly removed: PictureKey[] = [];
  readonly orders: EraseRecords[] = [];

  run(places: FoundPlace[], changed: Partial<EraseOrder> = {}) {
    const order = {
      sha1: SHA1,
      places,
      records: places.map(({ block, slot, names }) => ({ block, slot, aliases: names.length - 1 })),
      destroyed: new Set<ServerId>(),
      waitMs: 10_000,
      ...changed,
    };
    return erase(
      {
        find: async () => (this.found.length > 1 ? this.found.shift()! : this.found[0]!),
        remove: async (key) => void this.removed.push(key),
        eraseRecords: async (one) => {
          this.orders.push(one);
          return { kept: await this.erases(one) };
        },
        clearTraces: async () => ({
          servers: this.cleared.length > 1 ? this.cleared.shift()! : this.cleared[0]!,
        }),
        clock: this.clock,
        onStep: () => undefined,
      },
      order,
    );
  }
}

const clear = (server: number, holds: number[] = [], left: string[] = []): Cleared => ({
  server: server as ServerId,
  isRemoved: false,
  cleared: { holds: holds as BlockId[], left, removed: 0 },
});

describe('an erasure', (test) => {
  test('deletes what lives, erases all, and is done when everybody has said so', async () => {
    const world = new World();
    const outcome = await world.run([place(3, 'live', 'deleted', 'hidden'), place(9, 'deleted')]);
    assert.equal(outcome, { done: true, mayHold: [], pending: [], added: [] });
    assert.equal(
      world.removed.map(({ fileId }) => fileId),
      [3, 0x8000_0000 + 50],
    );
    assert.equal(world.orders, [
      {
        block: BLOCK,
        slots: [
          { slot: 3, aliases: 2 },
          { slot: 9, aliases: 0 },
        ],
      },
    ]);
  });

  test('waits for what passes: another leader, a seal, a copy that is let go of', async () => {
    const world = new World();
    let tries = 0;
    world.erases = async () => {
      if (++tries < 4) throw new TfsError('NOT_LEADER', 'ask the other one');
      return [];
    };
    world.cleared = [[clear(1, [BLOCK])], [clear(1)]];
    const waits = { server: 2 as ServerId, why: 'block 5 waits there for its seal', passes: true };
    world.found = [
      { places: [], untold: [waits] },
      { places: [], untold: [] },
    ];
    assert.is((await world.run([place(3, 'live')])).done, true);
    assert.is(tries, 4);
  });

  test('is not done while a disk cannot be asked, unless somebody says that it is no more', async () => {
    const world = new World();
    const gone = { server: 4 as ServerId, isRemoved: true, failure: 'it was taken out of the cluster' };
    world.cleared = [[clear(1), gone]];
    const outcome = await world.run([place(3, 'live')]);
    assert.is(outcome.done, false);
    assert.equal(
      outcome.mayHold.map(({ server, why }) => [server, why]),
      [[4, 'it was taken out of the cluster']],
    );
    assert.is((await world.run([place(3, 'deleted')], { destroyed: new Set([4 as ServerId]) })).done, true);
    world.cleared = [[clear(1, [], ['blocks/a-copy'])]];
    assert.match((await world.run([place(3, 'deleted')])).mayHold[0]!.why, 'blocks/a-copy');
    world.cleared = [[clear(1, [BLOCK])]];
    const held = await world.run([place(3, 'deleted')]);
    assert.is(held.done, false, 'for as long as it was to wait');
    // One that answers is not believed to be destroyed.
    world.cleared = [[clear(4, [BLOCK])]];
    assert.is((await world.run([place(3, 'deleted')], { destroyed: new Set([4 as ServerId]) })).done, false);
  });

  test('a name that came up meanwhile is neither erased nor passed over', async () => {
    const world = new World();
    world.erases = async () => [3 as Slot];
    world.found = [{ places: [place(3, 'deleted', 'live')], untold: [] }];
    const outcome = await world.run([place(3, 'live')]);
    assert.is(outcome.done, false);
    assert.equal(
      world.removed.map(({ fileId }) => fileId),
      [3],
      'the one that was shown',
    );
    assert.equal(
      outcome.added.map(({ fileId, state }) => [fileId, state]),
      [[0x8000_0000 + 49, 'live']],
    );
    assert.match(outcome.pending[0]!, '1 records of block 131072 are kept');
  });

  test('what was agreed to before is erased too, though no disk that answers has it any more', async () => {
    const world = new World();
    const records = [{ block: BLOCK, slot: 3 as Slot, aliases: 1 }];
    assert.is((await world.run([], { records })).done, true);
    assert.equal(world.orders, [{ block: BLOCK, slots: [{ slot: 3, aliases: 1 }] }]);
  });

  test('what fails for good is told, and the rest is done all the same', async () => {
    const world = new World();
    world.erases = async () => {
      throw new TfsError('CORRUPT', 'slot 4 of block 131072, which lives, verifies on no replica');
    };
    const outcome = await world.run([place(3, 'live'), { ...place(5, 'live'), names: unread }]);
    assert.is(outcome.done, false);
    assert.is(outcome.pending.length, 2);
    assert.match(outcome.pending[0]!, 'slot 5 of block 131072 reads on no server');
    assert.match(outcome.pending[1]!, 'verifies on no replica');
  });
});

const unread: FoundPlace['names'] = [{ fileId: 5 as FileId, cookie: undefined, state: 'live' }];

describe('looking for a content', (test) => {
  test('takes each record from the replica that has heard most of it, piece by piece', async () => {
    const record = (seq: number, cookie: number | undefined, flags: number, aliases = 0) => ({
      block: BLOCK,
      slot: 3 as Slot,
      version: { epoch: 1 as never, n: 1 },
      seq,
      names: [
        { fileId: 3 as FileId, flags, ...(cookie === undefined ? {} : { cookie: cookie as Cookie }) },
        ...Array.from({ length: aliases }, () => ({
          fileId: 0x8000_0001 as FileId,
          cookie: 9 as Cookie,
          flags,
        })),
      ],
    });
    const empty = { records: [], unread: [], unsettled: [], looked: 1, blocks: 2 };
    const asked: string[] = [];
    const server = (id: number, state = 'up') => ({ id: id as ServerId, state }) as never;
    const found = await findEverywhere(
      {
        servers: async () => [server(1), server(2), server(3, 'down')],
        find: async ({ id }, _, from) => {
          asked.push(`${id} ${from}`);
          if (id === 2) return { ...empty, records: [record(9, undefined, NameFlag.DELETED, 1)] };
          if (from === 0) return { ...empty, records: [record(8, 5, 0)], next: 4 };
          return { ...empty, unread: [8 as BlockId], unsettled: [9 as BlockId] };
        },
        onLooked: () => undefined,
      },
      SHA1,
    );
    assert.equal(asked.sort(), ['1 0', '1 4', '2 0']);
    assert.equal(
      found.places.map(({ names }) => names.map(({ cookie, state }) => [cookie, state])),
      [
        [
          [5, 'deleted'],
          [9, 'deleted'],
        ],
      ],
    );
    assert.equal(
      found.untold.map(({ server: id, passes }) => [id, passes]),
      [
        [1, true],
        [1, true],
        [3, false],
      ],
    );
  });
});
