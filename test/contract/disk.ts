import * as assert from 'uvu/assert';
import { type ErrorCode, isTfsError } from '../../common/errors.ts';
import type { Disk } from '../../common/seams/disk.ts';
import { describe, type TestContext } from '../kit/suite.ts';

/** What `common/seams/disk.ts` promises, asked of one implementation; `place` gives an empty mount each time. */
export function diskContract(name: string, place: (t: TestContext) => Promise<Disk>): void {
  describe(`disk contract: ${name}`, (test) => {
    const text = (bytes: Buffer): string => bytes.toString('latin1');

    test('bytes are read back where they were written, from several buffers in order', async (t) => {
      const disk = await place(t);
      const file = await disk.open('a', 'create');
      t.defer(() => file.close());
      await file.write([Buffer.from('hello '), Buffer.alloc(0), Buffer.from('wor'), Buffer.from('ld')], 0);
      await file.write([Buffer.from('H')], 0);
      const all = Buffer.alloc(11);
      assert.is(await file.read(all, 0), 11);
      assert.is(text(all), 'Hello world');
      const part = Buffer.alloc(3);
      assert.is(await file.read(part, 6), 3);
      assert.is(text(part), 'wor');
      await file.write([], 0);
      assert.is(await file.size(), 11);
    });

    test('more buffers than one system call takes are written all the same', async (t) => {
      const disk = await place(t);
      const file = await disk.open('a', 'create');
      t.defer(() => file.close());
      const buffers = Array.from({ length: 2500 }, (_, i) => Buffer.from([i & 0xff, i >> 8]));
      await file.writeDurable(buffers, 8);
      const back = Buffer.alloc(5000);
      assert.is(await file.read(back, 8), 5000);
      assert.equal(back, Buffer.concat(buffers));
    });

    test('a read at the end of the file is short, behind it empty', async (t) => {
      const disk = await place(t);
      const file = await disk.open('a', 'create');
      t.defer(() => file.close());
      await file.write([Buffer.from('12345')], 0);
      const target = Buffer.alloc(4, 'x');
      assert.is(await file.read(target, 3), 2);
      assert.is(text(target), '45xx');
      assert.is(await file.read(target, 5), 0);
      assert.is(await file.read(target, 500), 0);
    });

    test('a gap reads as zeros, and so does what was cut off and grown again', async (t) => {
      const disk = await place(t);
      const file = await disk.open('a', 'create');
      t.defer(() => file.close());
      await file.write([Buffer.from('abcdef')], 0);
      await file.truncate(2);
      assert.is(await file.size(), 2);
      await file.write([Buffer.from('z')], 5);
      const back = Buffer.alloc(6, 'x');
      assert.is(await file.read(back, 0), 6);
      assert.equal(back, Buffer.from('ab\0\0\0z', 'latin1'));
      await file.truncate(8);
      assert.is(await file.size(), 8);
    });

    test('open modes insist on what they say', async (t) => {
      const disk = await place(t);
      await fails('NOT_FOUND', () => disk.open('a', 'read'));
      await fails('NOT_FOUND', () => disk.open('a', 'write'));
      await fails('NOT_FOUND', () => disk.readFile('a'));
      const made = await disk.open('a', 'exclusive');
      await made.write([Buffer.from('kept')], 0);
      await made.close();
      await fails('CONFLICT', () => disk.open('a', 'exclusive'));
      const again = await disk.open('a', 'write');
      assert.is(await again.size(), 4);
      await again.close();
      const emptied = await disk.open('a', 'create');
      assert.is(await emptied.size(), 0);
      await emptied.close();
      await fails('NOT_FOUND', () => disk.open('no/such/directory', 'create'));
    });

    test('a file opened for reading takes no writes', async (t) => {
      const disk = await place(t);
      await (await disk.open('a', 'create')).close();
      const file = await disk.open('a', 'read');
      t.defer(() => file.close());
      await throws(() => file.write([Buffer.from('x')], 0));
      await throws(() => file.writeDurable([Buffer.from('x')], 0));
      await throws(() => file.truncate(0));
    });

    test('an open file stays the same file when its name changes', async (t) => {
      const disk = await place(t);
      const file = await disk.open('a', 'create');
      t.defer(() => file.close());
      await file.write([Buffer.from('before')], 0);
      await disk.rename('a', 'b');
      await file.writeDurable([Buffer.from('AFTER!')], 0);
      await file.datasync();
      await disk.syncDirectory('');
      assert.is(text(await disk.readFile('b')), 'AFTER!');
      assert.is(await disk.stat('a'), undefined);
    });

    test('a rename replaces what had the name, and needs a source', async (t) => {
      const disk = await place(t);
      for (const name of ['a', 'b']) {
        const file = await disk.open(name, 'create');
        await file.write([Buffer.from(name)], 0);
        await file.close();
      }
      await disk.rename('a', 'b');
      assert.equal(await disk.list(''), ['b']);
      assert.is(text(await disk.readFile('b')), 'a');
      await fails('NOT_FOUND', () => disk.rename('a', 'b'));
      await fails('NOT_FOUND', () => disk.unlink('a'));
      await disk.unlink('b');
      assert.equal(await disk.list(''), []);
    });

    test('a link is a second name of the same file, where none is yet', async (t) => {
      const disk = await place(t);
      await disk.mkdir('d');
      const file = await disk.open('a', 'create');
      t.defer(() => file.close());
      await file.write([Buffer.from('first')], 0);
      await disk.link('a', 'd/b');
      await disk.syncDirectory('d');
      await file.write([Buffer.from('FIRST')], 0);
      assert.is(text(await disk.readFile('d/b')), 'FIRST');
      await fails('CONFLICT', () => disk.link('a', 'd/b'));
      await fails('NOT_FOUND', () => disk.link('x', 'y'));
      await disk.rename('a', 'd/b');
      assert.is(text(await disk.readFile('a')), 'FIRST');
      await (await disk.open('c', 'create')).close();
      await disk.rename('c', 'a');
      assert.is(text(await disk.readFile('a')), '');
      assert.is(text(await disk.readFile('d/b')), 'FIRST');
    });

    test('directories are made with those above them, once or again, and list only files, in order', async (t) => {
      const disk = await place(t);
      await disk.mkdir('d/e');
      await disk.mkdir('d/e');
      await disk.mkdir('d');
      for (const name of ['d/b', 'd/a-2.x', 'd/e/c', 'd/a']) await (await disk.open(name, 'create')).close();
      assert.equal(await disk.list('d'), ['a', 'a-2.x', 'b']);
      assert.equal(await disk.list('d/e'), ['c']);
      assert.equal(await disk.list(''), []);
      await disk.rename('d/a', 'd/e/a');
      await disk.syncDirectory('d/e');
      await disk.syncDirectory('d');
      assert.equal(await disk.list('d/e'), ['a', 'c']);
      await fails('NOT_FOUND', () => disk.list('x'));
      await fails('NOT_FOUND', () => disk.syncDirectory('x'));
    });

    test('a close waits for what is under way, and is the last thing that happens', async (t) => {
      const disk = await place(t);
      const file = await disk.open('a', 'create');
      const writes = [
        file.write([Buffer.alloc(100_000, 1)], 0),
        file.writeDurable([Buffer.alloc(100_000, 2)], 100_000),
      ];
      await file.close();
      await Promise.all(writes);
      assert.is((await disk.stat('a'))?.size, 200_000);
      await throws(() => file.read(Buffer.alloc(1), 0));
      await throws(() => file.write([Buffer.alloc(1)], 0));
      await throws(() => file.datasync());
      await throws(() => file.close());
    });

    test('paths outside the mount, or with odd names, are a bug of the caller', async (t) => {
      const disk = await place(t);
      for (const path of ['', '/a', '../a', 'a/../b', './a', 'a//b', 'a/', 'A', 'a b', 'a\0', 'a\\b', 'é'])
        await throws(() => disk.open(path, 'create'));
      await throws(() => disk.rename('a', '../a'));
      await throws(() => disk.unlink('..'));
      await throws(() => disk.list('..'));
      await throws(() => disk.syncDirectory('..'));
    });

    test('a name stands for the same file until another takes its place', async (t) => {
      const disk = await place(t);
      assert.is(await disk.identity('a'), undefined);
      const file = await disk.open('a', 'create');
      const first = await disk.identity('a');
      assert.is(typeof first, 'string');
      await file.writeDurable([Buffer.from('x')], 0);
      await file.close();
      assert.is(await disk.identity('a'), first);
      await (await disk.open('b', 'create')).close();
      assert.is.not(await disk.identity('b'), first);
      await disk.rename('b', 'a');
      assert.is.not(await disk.identity('a'), first);
      await disk.unlink('a');
      assert.is(await disk.identity('a'), undefined);
    });

    test('usage: the directory itself, then its files with what they take, no directories', async (t) => {
      const disk = await place(t);
      await disk.mkdir('d/inner');
      for (const [name, size] of [
        ['d/b', 5000],
        ['d/a', 0],
        ['d/inner/c', 7],
      ] as const) {
        const file = await disk.open(name, 'create');
        await file.write([Buffer.alloc(size, 1)], 0);
        await file.datasync();
        await file.close();
      }
      const [own, ...files] = await disk.usage('d');
      assert.is(own!.name, '');
      const sizes = files.map(({ name, size }) => [name, size]).sort();
      assert.equal(sizes, [
        ['a', 0],
        ['b', 5000],
      ]);
      for (const { size, allocatedBytes } of files) assert.ok(allocatedBytes >= size, `${allocatedBytes}`);
      await fails('NOT_FOUND', () => disk.usage('nowhere'));
      assert.equal((await disk.usage('')).slice(1), []);
    });

    test('space is told', async (t) => {
      const { totalBytes, freeBytes } = await (await place(t)).space();
      assert.ok(totalBytes > 0 && freeBytes >= 0 && freeBytes <= totalBytes);
    });
  });
}

async function fails(code: ErrorCode, work: () => Promise<unknown>): Promise<void> {
  const error = await work().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(isTfsError(error, code), `${code} expected, got ${String(error)}`);
}

/** An assertion, which may come at once or by the promise. */
async function throws(work: () => Promise<unknown>): Promise<void> {
  let thrown: unknown;
  try {
    await work();
  } catch (error) {
    thrown = error;
  }
  assert.ok(
    thrown instanceof Error && thrown.message.startsWith('assertion failed'),
    `got ${String(thrown)}`,
  );
}
