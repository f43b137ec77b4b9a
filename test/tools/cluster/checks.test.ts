import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, statfsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { defaultConfig, parseConfig, portsOf } from '../../../common/config.ts';
import { isTfsError } from '../../../common/errors.ts';
import { endLeftovers, findLeftovers } from '../../../tools/cluster/leftovers.ts';
import { takenPorts } from '../../../tools/cluster/ports.ts';
import { fullDisks } from '../../../tools/cluster/space.ts';
import { withStartLock } from '../../../tools/cluster/start-lock.ts';
import { freePorts } from '../../kit/ports.ts';
import { describe } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

const uuid = '00112233445566778899aabbccddeeff';

describe('checks before a start', (test) => {
  test('taken ports are all named with the settings that chose them', async (t) => {
    const base = await freePorts(40);
    const uses = portsOf(parseConfig(defaultConfig({ uuid, basePort: base }), tempDir(t)));
    assert.equal(await takenPorts(uses), []);
    for (const port of [base, base + 22]) {
      const server = createServer().listen(port, '127.0.0.1');
      await once(server, 'listening');
      t.defer(() => server.close());
    }
    const taken = await takenPorts(uses);
    assert.equal(
      taken.map((use) => use.what),
      ['gateway.port', 'mounts[0].port'],
    );
  });

  test('a port that is let go of while it is tried again is free', async (t) => {
    const port = await freePorts(1);
    const server = createServer().listen(port, '127.0.0.1');
    await once(server, 'listening');
    t.defer(() => server.close());
    const uses = [{ host: '127.0.0.1', port, what: 'gateway.port' }];
    assert.is((await takenPorts(uses, 150)).length, 1);
    const tried = takenPorts(uses, 20_000);
    server.close();
    assert.equal(await tried, []);
  });

  test('mounts that share a disk need room together', async (t) => {
    const home = tempDir(t);
    const input = defaultConfig({ uuid });
    const small = parseConfig(input, home);
    assert.equal(await fullDisks(small, small.mounts), []);
    const { bavail, bsize } = statfsSync(home);
    const config = {
      ...small,
      dataserver: { ...small.dataserver, blockBytes: Math.floor(bavail * bsize * 0.4) },
    };
    assert.equal(await fullDisks(config, small.mounts.slice(0, 1)), []);
    const [full] = await fullDisks(config, small.mounts);
    assert.equal(full?.servers, [1, 2, 3]);
    assert.ok(full !== undefined && full.freeBytes < full.neededBytes);
  });

  test('what outlived its process manager is found and ended; others are not', async (t) => {
    const home = tempDir(t);
    const pids = join(home, 'pm2', 'pids');
    mkdirSync(pids, { recursive: true });
    const sleeper = (cwd: string) => {
      const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)'], { cwd, stdio: 'ignore' });
      t.defer(() => child.kill('SIGKILL'));
      return child;
    };
    const ours = sleeper(home);
    const other = sleeper(tempDir(t));
    writeFileSync(join(pids, 'dataserver-1-2.pid'), String(ours.pid));
    // A number of ours that the system has given to somebody else since.
    writeFileSync(join(pids, 'dataserver-2-3.pid'), String(other.pid));
    writeFileSync(join(pids, 'dataserver-3-4.pid'), '4194304');
    const found = await findLeftovers(home, join(home, 'pm2'));
    assert.equal(found, [{ pid: ours.pid, name: 'dataserver-1' }]);
    const ended = once(ours, 'exit');
    await endLeftovers(found, home);
    await ended;
    assert.equal(await findLeftovers(home, join(home, 'pm2')), []);
    assert.is(other.exitCode, null);
  });

  test('two starts of one home do not run at once, of two homes they do', async (t) => {
    const home = tempDir(t);
    const inside = await withStartLock(home, async () => {
      const second = withStartLock(home, async () => 'ran');
      const refused = await second.catch((error: unknown) => isTfsError(error, 'CONFLICT'));
      return [refused, await withStartLock(tempDir(t), async () => 'ran')];
    });
    assert.equal(inside, [true, 'ran']);
    assert.is(await withStartLock(home, async () => 'free again'), 'free again');
  });
}, 30_000);
