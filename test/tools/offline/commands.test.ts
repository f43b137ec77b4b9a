import { execFile } from 'node:child_process';
import { copyFile, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { ServerId } from '../../../common/ids.ts';
import { formatMount } from '../../../dataserver/mount.ts';
import { EXAMPLE_SUPERBLOCK, TINY_GIF, TINY_PNG } from '../../kit/example-block.ts';
import { GOLDEN_DIRECTORY } from '../../kit/golden.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const FILES = ['65537.0.blk', '65537.0.ops', '65537.0.idx'];

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** With a home that is not there: these commands need no cluster. */
function tfs(home: string, ...args: string[]): Promise<Ran> {
  const command = ['--import', 'tsx', join(ROOT, 'tools', 'tfs.ts'), '--home', join(home, 'absent'), ...args];
  return new Promise((resolve) => {
    const child = execFile(process.execPath, command, { cwd: ROOT }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

async function mountOf(t: TestContext): Promise<{ home: string; mount: string; blk: string }> {
  const home = tempDir(t);
  const mount = join(home, 'm1');
  await formatMount({ path: mount, clusterUuid: EXAMPLE_SUPERBLOCK.clusterUuid, server: 1 as ServerId });
  for (const name of FILES) await copyFile(join(GOLDEN_DIRECTORY, name), join(mount, 'blocks', name));
  return { home, mount, blk: join(mount, 'blocks', FILES[0]!) };
}

const jsonOf = (ran: Ran): Record<string, unknown>[] =>
  ran.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe('offline commands', (test) => {
  test('salvage: what is sound comes out; damage is told, with what to do, and by the exit code', async (t) => {
    const { home, blk } = await mountOf(t);
    const [good, bad] = [join(home, 'good'), join(home, 'bad')];
    const damaged = join(home, 'copy.blk');
    const bytes = await readFile(blk);
    bytes[4096 + 90]! ^= 1;
    await writeFile(damaged, bytes);
    const [text, json] = await Promise.all([
      tfs(home, 'salvage', blk, '-o', good),
      tfs(home, 'salvage', damaged, '-o', bad, '--digit', '4', '--json'),
    ]);
    assert.is(text.code, 0, text.stderr);
    assert.match(text.stdout, '1 picture, 67 bytes');
    assert.equal((await readdir(good)).sort(), ['T1ZREvB4_T1Gy2QwCQ.png', 'T1ZREvByET1RCvhRJc.png']);
    assert.equal(await readFile(join(good, 'T1ZREvByET1RCvhRJc.png')), TINY_PNG);

    assert.is(json.code, 1, json.stderr);
    assert.match(json.stderr, 'salvage another replica');
    assert.match(json.stderr, 'no ops log beside it');
    const pictures = jsonOf(json).filter(({ kind }) => kind === 'picture');
    assert.equal(
      pictures.map(({ outcome }) => outcome),
      ['damaged', 'extracted'],
    );
    assert.is(pictures[1]!['name'], 'T4ZREvByJT1RCThRJc');
    assert.equal(await readFile(join(bad, String(pictures[1]!['file']))), TINY_GIF);
  });

  test('fsck: 0 clean, 1 damage, 2 could not check', async (t) => {
    const [sound, damaged] = [await mountOf(t), await mountOf(t)];
    const bytes = await readFile(damaged.blk);
    bytes[4096 + 90]! ^= 1;
    await writeFile(damaged.blk, bytes);
    const { home } = sound;
    const [clean, damage, nothing] = await Promise.all([
      tfs(home, 'fsck', sound.mount, '--json'),
      tfs(home, 'fsck', damaged.mount),
      tfs(home, 'fsck', join(home, 'nowhere')),
    ]);
    assert.is(clean.code, 0, clean.stderr);
    const [report] = jsonOf(clean);
    assert.is(report!['clean'], true);
    assert.is((report!['steps'] as unknown[]).length, 7);
    assert.is(damage.code, 1);
    assert.match(damage.stdout, /DAMAGE\s+records/);
    assert.match(damage.stderr, 'records: 65537.0.blk: slot 0 at 4096');
    assert.is(nothing.code, 2);
    assert.match(nothing.stderr, 'is not a mount');
  });

  test('dump: a block with its ops log, an index, and a file that is neither', async (t) => {
    const { home, mount, blk } = await mountOf(t);
    const ran = await tfs(home, 'dump', blk, join(mount, 'blocks', FILES[2]!), join(mount, 'mount.tfs'));
    for (const what of ['block 65537', 'slot 1', 'deleted', 'as sealed', 'ALIAS', 'index '])
      assert.match(ran.stdout, what);
    assert.is(ran.code, 1);
    assert.match(ran.stderr, 'mount.tfs: ');
  });
}, 60_000);
