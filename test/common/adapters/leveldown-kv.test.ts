import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { LeveldownKv } from '../../../common/adapters/leveldown-kv.ts';
import { isTfsError } from '../../../common/errors.ts';
import { kvContract, put } from '../../contract/kv.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

async function place(t: TestContext): Promise<{ directory: string; open(): Promise<LeveldownKv> }> {
  const parent = await mkdtemp(join(tmpdir(), 'tfs-kv-'));
  t.defer(() => rm(parent, { recursive: true, force: true }));
  const directory = join(parent, 'deep', 'kv');
  return { directory, open: () => LeveldownKv.open({ directory, cacheBytes: 1 << 20 }) };
}

kvContract('leveldown', place);

describe('leveldown kv', (test) => {
  test('another process cannot open it, and can once its holder was killed', async (t) => {
    const { directory, open } = await place(t);
    const script = `
      import { LeveldownKv } from ${JSON.stringify(new URL('../../../common/adapters/leveldown-kv.ts', import.meta.url).href)};
      const kv = await LeveldownKv.open({ directory: ${JSON.stringify(directory)} });
      await kv.batch([{ type: 'put', key: Buffer.from('a'), value: Buffer.from('1') }]);
      process.stdout.write('open');
      setInterval(() => kv, 1000);`;
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.defer(() => child.kill('SIGKILL'));
    const ended = once(child, 'exit');
    await once(child.stdout, 'data');
    const failure = await open().catch((error: unknown) => error);
    assert.ok(isTfsError(failure, 'CONFLICT'), String(failure));
    child.kill('SIGKILL');
    await ended;
    const kv = await open();
    t.defer(() => kv.close());
    assert.equal(await kv.get(Buffer.from('a')), Buffer.from('1'));
  });

  test('after a full disk every write fails until it is opened again; reads go on', async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'tfs-kv-full-'));
    t.defer(() => rm(directory, { recursive: true, force: true }));
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tfs-test', directory]).status !== 0) {
      process.stdout.write('SKIPPED leveldown kv: a full disk needs the right to mount a tmpfs\n');
      return;
    }
    t.defer(() => spawnSync('umount', [directory]));
    const kv = await LeveldownKv.open({ directory: join(directory, 'kv') });
    t.defer(() => kv.close());
    await kv.batch([put('a', '1')]);
    await writeFile(join(directory, 'filler'), Buffer.alloc(2 << 20)).catch(() => undefined);
    const value = 'x'.repeat(64 << 10);
    let failure: unknown;
    for (let i = 0; i < 40 && failure === undefined; i++)
      failure = await kv.batch([put(`k${i}`, value)]).catch((error: unknown) => error);
    assert.ok(isTfsError(failure, 'DISK_FULL'), String(failure));
    await unlink(join(directory, 'filler'));
    assert.ok(isTfsError(await kv.batch([put('b', '1')]).catch((error: unknown) => error), 'DISK_FULL'));
    assert.ok(isTfsError(await kv.clear({}).catch((error: unknown) => error), 'DISK_FULL'));
    assert.equal(await kv.get(Buffer.from('a')), Buffer.from('1'));
    await kv.close();
    const again = await LeveldownKv.open({ directory: join(directory, 'kv') });
    t.defer(() => again.close());
    await again.batch([put('b', '1')]);
    assert.equal(await again.get(Buffer.from('a')), Buffer.from('1'));
  });

  test('damage that LevelDB notices is CORRUPT, and a rebuildable store starts empty beside it', async (t) => {
    for (const damage of ['manifest', 'current'] as const) {
      const { directory, open } = await place(t);
      const first = await open();
      await first.batch([put('a', '1')], { sync: true });
      await first.close();
      const manifest = (await readdir(directory)).find((file) => file.startsWith('MANIFEST'))!;
      if (damage === 'manifest') await unlink(join(directory, manifest));
      else await truncate(join(directory, 'CURRENT'), 3);
      const failure = await open().catch((error: unknown) => error);
      assert.ok(isTfsError(failure, 'CORRUPT'), String(failure));
      const { kv, broken } = await LeveldownKv.openRebuildable({ directory });
      t.defer(() => kv.close());
      assert.match(broken ?? '', /damaged/);
      assert.is(await kv.get(Buffer.from('a')), undefined);
      assert.ok((await readdir(`${directory}.broken`)).includes('CURRENT'));
      await kv.batch([put('a', '2')]);
    }
  });
});
