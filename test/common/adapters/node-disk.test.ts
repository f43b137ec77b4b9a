import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as assert from 'uvu/assert';
import { NodeDisk } from '../../../common/adapters/node-disk.ts';
import { isTfsError } from '../../../common/errors.ts';
import { diskContract } from '../../contract/disk.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

async function place(t: TestContext): Promise<{ root: string; disk: NodeDisk }> {
  const root = await mkdtemp(join(tmpdir(), 'tfs-disk-'));
  t.defer(() => rm(root, { recursive: true, force: true }));
  return { root, disk: await NodeDisk.open(root) };
}

diskContract('node', async (t) => (await place(t)).disk);

const ADAPTER = new URL('../../../common/adapters/node-disk.ts', import.meta.url).href;

describe('node disk', (test) => {
  test('a root that is not there, or no directory, is said so', async (t) => {
    const { root, disk } = await place(t);
    await (await disk.open('file', 'create')).close();
    const missing = await NodeDisk.open(join(root, 'none')).catch((error: unknown) => error);
    assert.ok(isTfsError(missing, 'NOT_FOUND'));
    const file = await NodeDisk.open(join(root, 'file')).catch((error: unknown) => error);
    assert.ok(isTfsError(file, 'IO'));
  });

  test('files are not readable by others', async (t) => {
    const { root, disk } = await place(t);
    await (await disk.open('a', 'create')).close();
    await disk.mkdir('d');
    assert.is((await stat(join(root, 'a'))).mode & 0o007, 0);
    assert.is((await stat(join(root, 'd'))).mode & 0o007, 0);
  });

  test('a short write is continued, and what stopped it is reported', async (t) => {
    const { root } = await place(t);
    // The shell limits the size of files to 64 KiB and ignores the signal that goes with it: a write across the limit
    // is short first and fails then.
    const script = `
      import { NodeDisk } from ${JSON.stringify(ADAPTER)};
      const disk = await NodeDisk.open(${JSON.stringify(root)});
      const file = await disk.open('a', 'create');
      const parts = Array.from({ length: 10 }, (_, i) => Buffer.alloc(10_000, i + 1));
      const codes = [];
      for (const write of ['write', 'writeDurable']) {
        await file.truncate(0);
        await file[write](parts, 0).then(() => codes.push('none'), (error) => codes.push(error.code));
        await file[write]([Buffer.alloc(100_000, 9)], 0).then(() => codes.push('none'), (error) => codes.push(error.code));
      }
      await file.write(parts.slice(0, 6), 0);
      const back = Buffer.alloc(60_000);
      await file.read(back, 0);
      process.stdout.write(JSON.stringify({ codes, size: await file.size(), same: back.equals(Buffer.concat(parts.slice(0, 6))) }));`;
    const shell = `trap '' XFSZ; ulimit -f 64; exec "$0" --import tsx --input-type=module -e "$1"`;
    const { stdout } = await promisify(execFile)('bash', ['-c', shell, process.execPath, script], {
      timeout: 8000,
    });
    assert.equal(JSON.parse(stdout), { codes: ['IO', 'IO', 'IO', 'IO'], size: 65_536, same: true });
  });

  // Permissions do not bind root.
  const unlessRoot = process.getuid?.() === 0 ? test.skip : test;
  unlessRoot('a directory that may not be written is an error of the disk, not of the caller', async (t) => {
    const { root, disk } = await place(t);
    await chmod(root, 0o500);
    const error = await disk.open('a', 'create').catch((thrown: unknown) => thrown);
    await chmod(root, 0o700);
    assert.ok(isTfsError(error, 'IO'), String(error));
  });
});
