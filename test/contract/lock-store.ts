import * as assert from 'uvu/assert';
import { isTfsError } from '../../common/errors.ts';
import type { LockStore } from '../../common/seams/lock-store.ts';
import type { Suite, TestContext } from '../kit/suite.ts';

export interface LockStoreWorld {
  readonly store: LockStore;
  /** Time passes for the store. */
  pass(ms: number): Promise<void>;
  /** From now on the store does not answer. */
  goDown(): Promise<void>;
}

/** What every {@link LockStore} keeps to. */
export function lockStoreContract(test: Suite, open: (t: TestContext) => Promise<LockStoreWorld>): void {
  const ask = (owner: string, epoch = 0, ttlMs = 400) => ({ owner, ttlMs, epoch });

  test('one holds it, and keeps it by asking again; it falls free by itself', async (t) => {
    const { store, pass } = await open(t);
    assert.ok((await store.take(ask('a'))).granted);
    assert.not((await store.take(ask('b'))).granted);
    await pass(250);
    assert.ok((await store.take(ask('a'))).granted);
    await pass(250);
    assert.not((await store.take(ask('b'))).granted, 'asking again made it last');
    await pass(450);
    assert.ok((await store.take(ask('b'))).granted);
    assert.not((await store.take(ask('a'))).granted);
  });

  test('only the holder frees it', async (t) => {
    const { store } = await open(t);
    await store.take(ask('a'));
    await store.release('b');
    assert.not((await store.take(ask('b'))).granted);
    await store.release('a');
    assert.ok((await store.take(ask('b'))).granted);
  });

  test('it remembers the highest epoch anyone told, granted or not', async (t) => {
    const { store } = await open(t);
    assert.is((await store.take(ask('a', 5))).epoch, 5);
    assert.is((await store.take(ask('b', 9))).epoch, 9);
    assert.is((await store.take(ask('a', 7))).epoch, 9);
    const large = 2 ** 47 + 1;
    assert.is((await store.take(ask('a', large))).epoch, large);
    assert.is((await store.take(ask('a', 1))).epoch, large);
  });

  test('without an answer it says so, soon', async (t) => {
    const { store, goDown } = await open(t);
    await store.take(ask('a'));
    await goDown();
    for (const work of [store.take(ask('a')), store.release('a'), store.take(ask('b'))]) {
      const error = await work.then(
        () => undefined,
        (failure: unknown) => failure,
      );
      assert.ok(isTfsError(error, 'UNAVAILABLE'), String(error));
    }
  });
}
