import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { NodeDisk } from '../../common/adapters/node-disk.ts';
import { isTfsError } from '../../common/errors.ts';
import { epochOf, serverId } from '../../common/ids.ts';
import { PromiseKeeper } from '../../dataserver/promise.ts';
import { turns } from '../kit/memory-net.ts';
import { describe, type TestContext } from '../kit/suite.ts';

async function disk(t: TestContext): Promise<NodeDisk> {
  const path = mkdtempSync(join(tmpdir(), 'tfs-promise-'));
  t.defer(() => rmSync(path, { recursive: true, force: true }));
  return NodeDisk.open(path);
}
const reign = (epoch: number, nameserver = 0) => ({ epoch: epochOf(epoch), nameserver });

async function stale(work: Promise<void>): Promise<boolean> {
  return work.then(
    () => false,
    (error: unknown) => {
      assert.ok(isTfsError(error, 'STALE_EPOCH'), String(error));
      return true;
    },
  );
}

describe('promise', (test) => {
  test('a promise never goes down, also after a restart', async (t) => {
    const mount = await disk(t);
    const keeper = await PromiseKeeper.open(mount);
    await keeper.accept(reign(5));
    await keeper.accept(reign(5));
    assert.ok(await stale(keeper.accept(reign(4))));
    const again = await PromiseKeeper.open(mount);
    assert.equal(again.reign, reign(5));
    assert.ok(await stale(again.accept(reign(4))));
    await again.accept(reign(6, 1));
    assert.is((await PromiseKeeper.open(mount)).reign.epoch, 6);
  });

  test('of one epoch the higher NameServer counts, durably, and the lower one is over then', async (t) => {
    const mount = await disk(t);
    const keeper = await PromiseKeeper.open(mount);
    await keeper.accept(reign(3, 0));
    await keeper.accept(reign(3, 1));
    assert.ok(await stale(keeper.accept(reign(3, 0))));
    assert.equal((await PromiseKeeper.open(mount)).reign, reign(3, 1));
  });

  test('concurrent promises end at the highest, and what was refused stays refused', async (t) => {
    const mount = await disk(t);
    const keeper = await PromiseKeeper.open(mount);
    const outcomes = await Promise.all([2, 9, 4, 7].map((epoch) => stale(keeper.accept(reign(epoch)))));
    assert.equal(outcomes, [false, false, true, true]);
    assert.is((await PromiseKeeper.open(mount)).reign.epoch, 9);
  });

  test('whoever sees a higher promise sees what was done under the lower one, and nothing is done after', async (t) => {
    const mount = await disk(t);
    const keeper = await PromiseKeeper.open(mount);
    await keeper.accept(reign(3));
    let finish: () => void = () => undefined;
    let isDone = false;
    const work = keeper.during(reign(3), async () => {
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      isDone = true;
      return 'result';
    });
    await turns(1);
    const higher = keeper.accept(reign(4, 1));
    while ((await PromiseKeeper.open(mount)).reign.epoch < 4) await turns(1);
    // It need not wait for its own writing any more.
    await sleep(100);
    assert.equal(keeper.reign, reign(3), 'durable, and not shown yet');
    let begun = false;
    const late = keeper.during(reign(3), async () => {
      begun = true;
    });
    finish();
    assert.is(await work, 'result');
    await higher;
    assert.ok(isDone);
    assert.equal(keeper.reign, reign(4, 1));
    assert.ok(await stale(late));
    assert.not(begun);
    // Work that fails ends too.
    const failing = keeper.during(reign(4, 1), () => Promise.reject(new Error('planted')));
    assert.match(String(await failing.catch((error: unknown) => error)), /planted/);
    await keeper.accept(reign(5));
  });

  test('a reign that is over while its order waits to be done is refused', async (t) => {
    const keeper = await PromiseKeeper.open(await disk(t));
    await keeper.accept(reign(3));
    let begun = 0;
    const orders = [reign(3), reign(4), reign(3), reign(5)].map((one) =>
      stale(
        keeper.during(one, async () => {
          begun++;
        }),
      ),
    );
    const outcomes = await Promise.all(orders);
    assert.is(begun, outcomes.filter((isStale) => !isStale).length);
    assert.is(outcomes[2], true);
    assert.is(outcomes[3], false);
  });

  test('known members are kept and only added to', async (t) => {
    const mount = await disk(t);
    const keeper = await PromiseKeeper.open(mount);
    await keeper.learnMembers([serverId(3), serverId(1)], []);
    await keeper.learnMembers([serverId(2)], []);
    assert.equal((await PromiseKeeper.open(mount)).members, [1, 2, 3]);
  });

  test('whoever was removed stays removed, whoever still names it', async (t) => {
    const mount = await disk(t);
    const keeper = await PromiseKeeper.open(mount);
    await keeper.accept(reign(3));
    await keeper.learnMembers([serverId(1), serverId(2)], [serverId(2)]);
    await keeper.learnMembers([serverId(1), serverId(2), serverId(3)], []);
    const reopened = await PromiseKeeper.open(mount);
    assert.equal([...reopened.members, ...reopened.removed], [1, 3, 2]);
    assert.is(reopened.reign.epoch, 3);
  });
});
