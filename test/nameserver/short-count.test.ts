import * as assert from 'uvu/assert';
import { BlockState } from '../../common/wire/messages.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { ShortCount } from '../../nameserver/short-count.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { describe } from '../kit/suite.ts';
import { entryOf, servers } from './entries.ts';

describe('count of copies', (test) => {
  test('goes round the map in steps, and shows whole rounds only, with their age', () => {
    const clock = new ManualClock();
    const map = new BlockMap();
    const away = new Set(servers(9));
    const count = new ShortCount({ map, clock, replicas: 3, away: () => away });
    assert.is(count.ageMs, undefined);
    // Nine pages are two steps.
    for (let page = 2; page < 11; page++)
      for (const server of servers(1, 2, 3))
        map.report(server, entryOf({ block: page * 0x1_0000, state: BlockState.SEALED, length: 8192 }));
    // On its way out.
    map.report(servers(1)[0]!, entryOf({ block: 2 * 0x1_0000 + 1, state: BlockState.SEALED, length: 4096 }));
    count.step();
    assert.is(count.ageMs, undefined, 'not all of it is counted yet');
    void clock.advance(500);
    count.step();
    assert.is(count.ageMs, 500, 'from when it began');
    assert.equal(count.counts.byCopies, [0, 0, 0, 9], 'and not what was sealed without a record');
    assert.is(count.value, 0);

    for (const server of servers(1, 2)) away.add(server);
    count.step();
    assert.is(count.value, 0, 'half a round later nothing is known yet');
    count.step();
    assert.equal(count.counts, { byCopies: [0, 9, 0, 0], short: 9, absent: 18, stale: 0, quarantined: 0 });
    assert.is(count.ageMs, 0);
  });
});
