import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as assert from 'uvu/assert';
import { ManagedCluster } from '../kit/managed-cluster.ts';
import { runTfs } from '../kit/run-tfs.ts';
import { describe, type TestContext } from '../kit/suite.ts';
import { tempDir } from '../kit/temp-dir.ts';

const exec = promisify(execFile);

/** A file system of its own that is nearly full; undefined where this user may not mount one. */
async function smallDisk(t: TestContext, mib: number): Promise<string | undefined> {
  const path = tempDir(t);
  try {
    await exec('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', path]);
  } catch (error) {
    process.stdout.write(`SKIPPED start: a full disk (cannot mount one here: ${(error as Error).message})\n`);
    return undefined;
  }
  t.defer(() => exec('umount', [path]));
  return path;
}

describe('npm start and reload, in trouble', (test) => {
  test('a mount that is added to the configuration is a process more after a reload', async (t) => {
    const cluster = await ManagedCluster.create(t);
    cluster.configure((config) => ({ ...config, mounts: config.mounts.slice(0, 2) }));
    assert.is((await cluster.tool('start')).code, 0);
    const file = join(cluster.home, 'config.json');
    const before = JSON.parse(readFileSync(file, 'utf8'));
    const mount = { ...before.mounts[1], id: 9, path: 'mounts/m9', domain: 'd9', port: cluster.port + 30 };
    const config = { ...before, mounts: [...before.mounts, { ...mount, adminPort: cluster.port + 31 }] };
    cluster.configure(() => config);
    const reloaded = await cluster.tool('reload');
    assert.is(reloaded.code, 0, `${reloaded.stdout}${reloaded.stderr}`);
    const { processes } = await cluster.status();
    const added = processes.find(({ kind, id }) => kind === 'dataserver' && id === '9');
    assert.equal([added?.state, added?.mount], ['up', join(cluster.home, 'mounts', 'm9')]);
    const put = await runTfs(['put', 'docs/sample.jpg', '--json'], { env: { TFS_HOME: cluster.home } });
    assert.is(put.code, 0, put.stderr);
  });

  test('a taken port is named with its setting, and nothing is written at a first start', async (t) => {
    const cluster = await ManagedCluster.create(t);
    const other = createServer().listen(cluster.port + 22, '127.0.0.1');
    await once(other, 'listening');
    t.defer(() => other.close());
    const end = await cluster.tool('start', ['--port', String(cluster.port)]);
    assert.is(end.code, 1);
    assert.match(end.stderr, `127.0.0.1:${cluster.port + 22} (mounts[0].port)`);
    assert.match(end.stderr, 'npm start -- --port');
    assert.is(existsSync(join(cluster.home, 'config.json')), false);
  });

  test('without Redis it says so and starts nothing', async (t) => {
    const cluster = await ManagedCluster.create(t);
    cluster.configure();
    const noServer = await cluster.tool('start', [], { REDIS_SERVER: '/nowhere/redis-server' });
    assert.is(noServer.code, 1);
    assert.match(noServer.stderr, 'redis-server is not installed');
    const noAnswer = await cluster.tool('start', [], { REDIS_URL: `redis://127.0.0.1:${cluster.port + 35}` });
    assert.is(noAnswer.code, 1);
    assert.match(noAnswer.stderr, 'no Redis answers');
    assert.ok((await cluster.status()).processes.every(({ pid }) => pid === null));
  });

  test('a full disk is named, with what is needed', async (t) => {
    const disk = await smallDisk(t, 20);
    if (disk === undefined) return;
    const cluster = await ManagedCluster.create(t);
    cluster.configure((config) => ({
      ...config,
      dataserver: { blockBytes: 32 << 20 },
      mounts: config.mounts.map((mount, i) => (i === 1 ? { ...mount, path: join(disk, 'm2') } : mount)),
    }));
    const end = await cluster.tool('start');
    assert.is(end.code, 1);
    assert.match(end.stderr, 'the disk is full');
    assert.match(end.stderr, join(disk, 'm2'));
    assert.match(end.stderr, '32 MiB needed');
  });

  test('a known mount that is gone is called missing, never formatted, and too many stop the start', async (t) => {
    const cluster = await ManagedCluster.create(t);
    cluster.configure();
    // Formats all three, then finds no Redis server: nothing is started.
    const mounts = ['m1', 'm2', 'm3'].map((name) => join(cluster.home, 'mounts', name));
    const [first = '', second = ''] = mounts;
    assert.is((await cluster.tool('start')).code, 0);
    await cluster.tool('stop');
    for (const path of [first, second]) renameSync(path, `${path}.away`);
    const end = await cluster.tool('start');
    assert.is(end.code, 1);
    assert.match(end.stdout, `MISSING: ${first}`);
    assert.match(end.stdout, `MISSING: ${second}`);
    assert.match(end.stderr, 'only 1 of 2 failure domains');
    assert.is(existsSync(join(first, 'mount.tfs')), false);
    renameSync(`${second}.away`, second);
    const degraded = await cluster.tool('start');
    assert.is(degraded.code, 0, degraded.stderr);
    assert.match(degraded.stdout, 'ATTENTION: dataserver 1 is refused');
  });
}, 150_000);
