import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { ForgetChanged } from '../../../client/gateway/forget-changed.ts';
import { nodeClock } from '../../../common/adapters/node-clock.ts';
import { silentLog } from '../../../common/log.ts';
import { until } from '../../kit/filled-cluster.ts';
import { LocalCluster } from '../../kit/local-cluster.ts';
import { describe } from '../../kit/suite.ts';

describe('what changed without a gateway', (test) => {
  test('it hears of: names that were deleted or hidden before it started, and since', async (t) => {
    const { client } = await LocalCluster.start(t, { mounts: 2, replicas: 2 });
    const names = await Promise.all(
      Array.from({ length: 4 }, async () => (await client.put(randomBytes(500))).name),
    );
    const [before, deleted, hidden, untouched] = names as [string, string, string, string];
    await client.remove(before);
    const forgotten = new Set<string>();
    const forgetting = ForgetChanged.open({
      ...{ client, clock: nodeClock, log: silentLog, everyMs: 50 },
      forget: (name) => void forgotten.add(name),
    });
    t.defer(() => forgetting.close());
    await until('it has heard of the past', () => forgotten.has(before), 20_000);
    assert.is(forgotten.size, 1);
    await client.remove(deleted);
    await client.hide(hidden);
    await until('it has heard of both', () => forgotten.has(deleted) && forgotten.has(hidden), 20_000);
    assert.not(forgotten.has(untouched));
    await forgetting.close();
    forgotten.clear();
    await client.remove(untouched);
    await sleep(200);
    assert.is(forgotten.size, 0, 'not after it was closed');
  });
}, 60_000);
