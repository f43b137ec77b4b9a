import * as assert from 'uvu/assert';
import { TableStream } from '../../nameserver/table-stream.ts';
import { describe } from '../kit/suite.ts';

describe('table stream', (test) => {
  test('a report in pages, then beats without gaps', () => {
    const stream = new TableStream();
    assert.not(stream.beat(1), 'nothing was reported yet');
    assert.is(stream.page({ page: 0, last: false, sequence: 7 }), 'first');
    assert.not(stream.isCurrent);
    assert.not(stream.beat(8), 'not before the report is whole');
    assert.is(stream.page({ page: 1, last: false, sequence: 7 }), 'next');
    assert.is(stream.page({ page: 2, last: true, sequence: 7 }), 'next');
    assert.ok(stream.isCurrent);
    assert.ok(stream.beat(8));
    assert.ok(stream.beat(8), 'sent again');
    assert.ok(stream.beat(9));
  });

  test('a digest that differs twice in a row asks for a new report; once may come of messages that crossed', () => {
    const stream = new TableStream();
    stream.page({ page: 0, last: true, sequence: 7 });
    assert.not(stream.isEqual, 'nothing was compared yet');
    assert.not(stream.compare(true));
    assert.ok(stream.isEqual);
    assert.not(stream.compare(false));
    assert.not(stream.isEqual);
    assert.not(stream.compare(true));
    assert.not(stream.compare(false));
    assert.ok(stream.compare(false));
    stream.page({ page: 0, last: true, sequence: 8 });
    assert.not(stream.compare(false), 'counted anew');
    assert.not(stream.compare(true));
    stream.reset();
    assert.not(stream.isEqual);
  });

  test('a gap asks for a new report, which mends it', () => {
    const stream = new TableStream();
    stream.page({ page: 0, last: true, sequence: 3 });
    assert.not(stream.beat(5));
    assert.not(stream.isCurrent);
    assert.not(stream.beat(6), 'until it comes');
    assert.is(stream.page({ page: 0, last: true, sequence: 6 }), 'first');
    assert.ok(stream.beat(7));
    assert.not(stream.beat(6), 'going back is a gap too');
  });

  test('pages of a report that was given up are not used', () => {
    const stream = new TableStream();
    assert.is(stream.page({ page: 1, last: false, sequence: 0 }), 'stray');
    stream.page({ page: 0, last: false, sequence: 1 });
    assert.is(stream.page({ page: 2, last: false, sequence: 1 }), 'stray', 'one was left out');
    assert.is(stream.page({ page: 1, last: false, sequence: 0 }), 'stray', 'of an older one');
    assert.is(stream.page({ page: 0, last: false, sequence: 2 }), 'first');
    assert.is(stream.page({ page: 1, last: true, sequence: 2 }), 'next');
    assert.is(stream.page({ page: 2, last: true, sequence: 2 }), 'stray', 'after the last');
    assert.ok(stream.isCurrent);
  });
});
