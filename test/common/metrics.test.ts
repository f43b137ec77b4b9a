import * as assert from 'uvu/assert';
import { openMetrics } from '../../common/metrics.ts';
import { describe } from '../kit/suite.ts';

describe('metrics', (test) => {
  test('two servers of one process count apart, labelled with who they are', async (t) => {
    const a = openMetrics({ kind: 'dataserver', id: '1', processMetrics: false });
    const b = openMetrics({ kind: 'dataserver', id: '2', processMetrics: false });
    t.defer(() => a.close());
    t.defer(() => b.close());
    const reads = a.counter('tfs_reads_total', 'reads', ['result']);
    b.counter('tfs_reads_total', 'reads', ['result']).inc({ result: 'ok' }, 5);
    reads.inc({ result: 'ok' }, 2);
    assert.match(await a.text(), 'tfs_reads_total{result="ok",kind="dataserver",id="1"} 2');
    assert.match(await b.text(), 'tfs_reads_total{result="ok",kind="dataserver",id="2"} 5');
  });

  test('an observed gauge is asked when somebody looks', async (t) => {
    const metrics = openMetrics({ kind: 'gateway', id: '0', processMetrics: false });
    t.defer(() => metrics.close());
    let value = 1;
    metrics.observed('tfs_in_flight', 'now', () => value);
    value = 7;
    assert.match(await metrics.text(), 'tfs_in_flight{kind="gateway",id="0"} 7');
  });

  test('an observed counter is a counter, and an observed gauge may have a value for each of many', async (t) => {
    const metrics = openMetrics({ kind: 'gateway', id: '0', processMetrics: false });
    t.defer(() => metrics.close());
    let value = 1;
    metrics.counted('tfs_things_total', 'things', () => value);
    const ages = new Map([
      [3, 0.5],
      [4, Number.POSITIVE_INFINITY],
    ]);
    metrics.observedBy('tfs_age_seconds', 'age', 'server', () => ages);
    await metrics.text();
    value = 5;
    ages.delete(3);
    const text = await metrics.text();
    assert.match(text, '# TYPE tfs_things_total counter');
    assert.match(text, 'tfs_things_total{kind="gateway",id="0"} 5');
    assert.match(text, 'tfs_age_seconds{server="4",kind="gateway",id="0"} +Inf');
    assert.not.match(text, 'server="3"', 'what is gone is gone');
  });

  test('histograms have buckets from a cached picture to a hung disk', async (t) => {
    const metrics = openMetrics({ kind: 'gateway', id: '0', processMetrics: false });
    t.defer(() => metrics.close());
    metrics.histogram('tfs_get_seconds', 'latency').observe(0.003);
    const text = await metrics.text();
    assert.match(text, 'tfs_get_seconds_bucket{le="0.002",kind="gateway",id="0"} 0');
    assert.match(text, 'tfs_get_seconds_bucket{le="0.005",kind="gateway",id="0"} 1');
  });

  test('the process itself is measured unless told not to', async (t) => {
    const metrics = openMetrics({ kind: 'gateway', id: '0' });
    t.defer(() => metrics.close());
    assert.match(await metrics.text(), 'process_resident_memory_bytes');
  });
});
