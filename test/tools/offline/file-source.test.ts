import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { isTfsError } from '../../../common/errors.ts';
import { fillTolerantly, openFileSource } from '../../../tools/offline/file-source.ts';
import { describe } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

describe('file source', (test) => {
  test('reads up to the end, anywhere', async (t) => {
    const directory = tempDir(t);
    const path = join(directory, 'f');
    await writeFile(path, Buffer.from('0123456789'));
    const source = await openFileSource(path);
    t.defer(() => source.close());
    const target = Buffer.alloc(4);
    assert.is(source.size, 10);
    assert.is(await source.read(target, 3), 4);
    assert.is(target.toString(), '3456');
    assert.is(await source.read(target, 8), 2);
    assert.is(await source.read(target, 20), 0);
    assert.is(source.unreadableBytes, 0);
  });

  test('says what is wrong with a path', async (t) => {
    const directory = tempDir(t);
    await mkdir(join(directory, 'd'));
    const codeOf = async (path: string): Promise<string> => {
      const error: unknown = await openFileSource(join(directory, path)).catch((e: unknown) => e);
      return isTfsError(error) && error.message.includes(path) ? error.code : 'another';
    };
    assert.is(await codeOf('absent'), 'NOT_FOUND');
    assert.is(await codeOf('d'), 'BAD_REQUEST');
  });

  test('what a disk cannot read becomes zeros, sector by sector, and the rest is kept', async () => {
    const disk = Buffer.alloc(5 * 4096, 'x');
    const target = Buffer.alloc(3 * 4096, 'y');
    const unreadable = await fillTolerantly(
      async (piece, at) => {
        const bad = at < 3 * 4096 && at + piece.length > 2 * 4096;
        if (bad) throw new Error('EIO');
        return disk.copy(piece, 0, at, at + piece.length);
      },
      target,
      4096 + 100,
    );
    assert.equal(unreadable, [2]);
    assert.ok(target.subarray(0, 3996).every((byte) => byte === 0x78));
    assert.ok(target.subarray(3996, 3996 + 4096).every((byte) => byte === 0));
    assert.ok(target.subarray(3996 + 4096).every((byte) => byte === 0x78));
  });
});
