import * as assert from 'uvu/assert';
import { type ErrorCode, isTfsError } from '../../common/errors.ts';
import type { Kv, KvOperation, KvRange } from '../../common/seams/kv.ts';
import { describe, type TestContext } from '../kit/suite.ts';

export interface KvUnderTest {
  /** Opens the same place each time; `t` cleans it up. */
  open(): Promise<Kv>;
}

/** What `common/seams/kv.ts` promises, asked of one implementation. */
export function kvContract(name: string, place: (t: TestContext) => Promise<KvUnderTest>): void {
  describe(`kv contract: ${name}`, (test) => {
    const opened = async (t: TestContext): Promise<Kv> => {
      const kv = await (await place(t)).open();
      t.defer(() => kv.close());
      return kv;
    };

    test('a value comes back as it was put, an empty one too', async (t) => {
      const kv = await opened(t);
      await kv.batch([put('a', '1'), put('b', '')]);
      assert.equal(await kv.get(Buffer.from('a')), Buffer.from('1'));
      assert.equal(await kv.get(Buffer.from('b')), Buffer.alloc(0));
    });

    test('a missing key reads as undefined', async (t) => {
      const kv = await opened(t);
      assert.is(await kv.get(Buffer.from('a')), undefined);
      await kv.batch([put('b', '2')]);
      assert.equal(await kv.getMany([Buffer.from('a'), Buffer.from('b'), Buffer.from('c')]), [
        undefined,
        Buffer.from('2'),
        undefined,
      ]);
      assert.equal(await kv.getMany([]), []);
    });

    test('later operations of a batch win over earlier ones', async (t) => {
      const kv = await opened(t);
      await kv.batch([put('a', '1'), del('a'), put('b', '1'), put('b', '2')]);
      assert.is(await kv.get(Buffer.from('a')), undefined);
      assert.equal(await kv.get(Buffer.from('b')), Buffer.from('2'));
      await kv.batch([]);
    });

    test('the caller may overwrite its buffers after the call', async (t) => {
      const kv = await opened(t);
      const key = Buffer.from('key');
      const value = Buffer.from('value');
      const written = kv.batch([{ type: 'put', key, value }]);
      key.fill(0);
      value.fill(0);
      await written;
      const read = await kv.get(Buffer.from('key'));
      assert.equal(read, Buffer.from('value'));
      read!.fill(0);
      assert.equal(await kv.get(Buffer.from('key')), Buffer.from('value'));
    });

    test('an empty key is refused and nothing of its batch is there', async (t) => {
      const kv = await opened(t);
      await rejected(kv.get(Buffer.alloc(0)));
      await rejected(kv.getMany([Buffer.alloc(0)]));
      await rejected(kv.batch([put('a', '1'), put('', '1')]));
      assert.is(await kv.get(Buffer.from('a')), undefined);
    });

    test('entries are in byte order, from gte on and below lt', async (t) => {
      const kv = await opened(t);
      const keys = ['00', '01', '0100', '01ff', '7f', '80', 'ff', 'ff00'];
      await kv.batch([...keys].reverse().map((key) => put(Buffer.from(key, 'hex'), key)));
      const range = async (r: KvRange) => (await all(kv.entries(r))).map(([key]) => key.toString('hex'));
      assert.equal(await range({}), keys);
      assert.equal(await range({ gte: Buffer.from('01', 'hex'), lt: Buffer.from('80', 'hex') }), [
        '01',
        '0100',
        '01ff',
        '7f',
      ]);
      assert.equal(await range({ gte: Buffer.from('81', 'hex') }), ['ff', 'ff00']);
      assert.equal(await range({ lt: Buffer.from('01', 'hex') }), ['00']);
      assert.equal(await range({ gte: Buffer.from('90', 'hex'), lt: Buffer.from('02', 'hex') }), []);
    });

    test('entries show the store as of the call', async (t) => {
      const kv = await opened(t);
      await kv.batch([put('a', '1'), put('b', '1')]);
      const entries = kv.entries({});
      await kv.batch([put('c', '1'), del('a'), put('b', '2')]);
      assert.equal(
        (await all(entries)).map(([key, value]) => `${key}=${value}`),
        ['a=1', 'b=1'],
      );
    });

    test('a loop over entries may end early', async (t) => {
      const kv = await opened(t);
      await kv.batch(Array.from({ length: 500 }, (_, i) => put(`k${1000 + i}`, `${i}`)));
      let seen = 0;
      for await (const _ of kv.entries({})) if (++seen === 3) break;
      assert.is(seen, 3);
      assert.is((await all(kv.entries({}))).length, 500);
    });

    test('clear removes a range and nothing beside it', async (t) => {
      const kv = await opened(t);
      await kv.batch(['a', 'b', 'c', 'd'].map((key) => put(key, key)));
      await kv.clear({ gte: Buffer.from('b'), lt: Buffer.from('d') });
      assert.equal(
        (await all(kv.entries({}))).map(([key]) => key.toString()),
        ['a', 'd'],
      );
      await kv.clear({});
      assert.equal(await all(kv.entries({})), []);
    });

    test('what was written is there after it is opened again', async (t) => {
      const where = await place(t);
      const first = await where.open();
      await first.batch([put('a', '1')], { sync: true });
      await first.batch([put('b', '2')]);
      await first.close();
      const second = await where.open();
      t.defer(() => second.close());
      assert.equal(await second.get(Buffer.from('a')), Buffer.from('1'));
      assert.equal(await second.get(Buffer.from('b')), Buffer.from('2'));
    });

    test('using it after close was called rejects with CLOSED', async (t) => {
      const kv = await opened(t);
      await kv.batch([put('a', '1'), put('b', '1')]);
      const entries = kv.entries({});
      const cursor = entries[Symbol.asyncIterator]();
      await cursor.next();
      const closed = kv.close();
      const key = Buffer.from('a');
      const uses = [
        () => kv.get(key),
        () => kv.getMany([key]),
        () => kv.batch([put('a', '2')]),
        () => kv.clear({}),
        () => all(kv.entries({})),
        () => cursor.next(),
      ];
      for (const use of uses) await rejected(use(), 'CLOSED');
      await closed;
      for (const use of uses.slice(0, 5)) await rejected(use(), 'CLOSED');
      await kv.close();
    });

    test('what was asked before close is answered', async (t) => {
      const kv = await opened(t);
      const writes = Array.from({ length: 200 }, (_, i) => kv.batch([put(`k${i}`, 'v')]));
      const read = kv.get(Buffer.from('k0'));
      await kv.close();
      await Promise.all(writes);
      assert.equal(await read, Buffer.from('v'));
    });

    test('a second open of the same place rejects with CONFLICT', async (t) => {
      const where = await place(t);
      const kv = await where.open();
      t.defer(() => kv.close());
      await rejected(where.open(), 'CONFLICT');
      await kv.batch([put('a', '1')]);
    });
  });
}

export const put = (key: string | Buffer, value: string): KvOperation => ({
  type: 'put',
  key: Buffer.from(key),
  value: Buffer.from(value),
});

const del = (key: string): KvOperation => ({ type: 'del', key: Buffer.from(key) });

async function all<T>(entries: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const entry of entries) found.push(entry);
  return found;
}

/** @param code of the TfsError expected; any error when absent */
async function rejected(work: Promise<unknown>, code?: ErrorCode): Promise<void> {
  let failure: unknown;
  try {
    await work;
  } catch (error) {
    failure = error;
  }
  assert.ok(failure instanceof Error, 'it rejects');
  if (code !== undefined) assert.ok(isTfsError(failure, code), `${code}, not ${failure}`);
}
