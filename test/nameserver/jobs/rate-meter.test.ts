import * as assert from 'uvu/assert';
import { JOB_RATE_MS } from '../../../common/limits.ts';
import { RateMeter } from '../../../nameserver/jobs/rate-meter.ts';
import { describe } from '../../kit/suite.ts';

describe('RateMeter', (test) => {
  test('the rate of the last minute, whatever came before', () => {
    const meter = new RateMeter();
    assert.is(meter.perSecond, 0);
    let sum = 0;
    const minutes = (from: number, to: number, step: number) => {
      for (let at = from * JOB_RATE_MS; at < to * JOB_RATE_MS; at += 250) {
        sum += step;
        meter.note(at, sum);
      }
    };
    minutes(0, 10, 250);
    assert.is(Math.round(meter.perSecond), 1000);
    minutes(10, 12, 25);
    assert.is(Math.round(meter.perSecond), 100);
    minutes(12, 14, 0);
    assert.is(meter.perSecond, 0);
    meter.clear();
    assert.is(meter.perSecond, 0);
  });
});
