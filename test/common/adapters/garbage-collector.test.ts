import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import * as assert from 'uvu/assert';
import { headroomPercent } from '../../../common/adapters/garbage-collector.ts';
import { HEAP_HEADROOM_BYTES, HEAP_HEADROOM_PERCENT_MIN } from '../../../common/limits.ts';
import { describe } from '../../kit/suite.ts';

const MODULE = new URL('../../../common/adapters/garbage-collector.ts', import.meta.url).href;

/** Lets objects grow old before it drops them, and prints how often the whole heap was marked for that. */
const age = (tune: boolean): string => `
  import { constants, PerformanceObserver } from 'node:perf_hooks';
  const { tuneGarbageCollector } = await import(${JSON.stringify(MODULE)});
  gc();
  if (${tune}) tuneGarbageCollector();
  let full = 0;
  const count = (list) => {
    for (const entry of list.getEntries()) if (entry.detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) full++;
  };
  new PerformanceObserver(count).observe({ entryTypes: ['gc'] });
  const alive = new Array(100_000);
  for (let i = 0; i < 8_000_000; i++) {
    alive[i % alive.length] = { number: i + 0.5, list: [i, i], text: String(i) };
    if (i % 50_000 === 0) await new Promise(setImmediate);
  }
  gc();
  await new Promise((resolve) => setTimeout(resolve, 10));
  console.log(full);`;

describe('garbage collector', (test) => {
  test('the less is alive the more may gather, and a large heap grows by its share', () => {
    const MIB = 1 << 20;
    assert.is(headroomPercent(HEAP_HEADROOM_BYTES), 100);
    assert.is(headroomPercent(HEAP_HEADROOM_BYTES / 16), 1600);
    assert.is(headroomPercent(4096 * MIB), HEAP_HEADROOM_PERCENT_MIN);
  });

  test('a tuned process marks its whole heap less often', async () => {
    const [plain, tuned] = await Promise.all(
      [false, true].map(async (tune) => {
        const args = ['--expose-gc', '--import', 'tsx', '--input-type=module', '-e', age(tune)];
        return Number((await promisify(execFile)(process.execPath, args)).stdout);
      }),
    );
    assert.ok(tuned! >= 1 && plain! > 1.5 * tuned!, `${plain} times without, ${tuned} times with`);
  });
}, 60_000);
