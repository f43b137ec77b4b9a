import { execFile } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { request } from 'undici';
import * as assert from 'uvu/assert';
import { BlockState } from '../../common/wire/messages.ts';
import { isRunning } from '../../tools/cluster/leftovers.ts';
import { ManagedCluster } from '../kit/managed-cluster.ts';
import { storedStates } from '../kit/stored-states.ts';
import { describe } from '../kit/suite.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const exec = promisify(execFile);

function kill(pids: readonly number[]): void {
  for (const pid of pids) process.kill(pid, 'SIGKILL');
}

async function fetched(url: string): Promise<Buffer> {
  const reply = await request(url);
  assert.is(reply.statusCode, 200);
  return Buffer.from(await reply.body.arrayBuffer());
}

describe('npm start', (test) => {
  test('brings up a cluster that takes the upload it suggests, once; survives kill -9; stops', async (t) => {
    const cluster = await ManagedCluster.create(t);
    cluster.configure();
    const first = await cluster.tool('start');
    assert.is(first.code, 0, `${first.stdout}${first.stderr}`);
    assert.match(first.stdout, 'is up: 8 of 8 processes');

    // The line that a newcomer is told to paste.
    const line = /^ *Upload +(curl .*)$/m.exec(first.stdout)?.[1] ?? '';
    const answer = JSON.parse((await exec('sh', ['-c', `${line} -sS`], { cwd: ROOT })).stdout);
    const sample = readFileSync(join(ROOT, 'docs', 'sample.jpg'));
    assert.equal(await fetched(answer.url), sample);

    const { processes } = await cluster.status();
    assert.equal(
      processes.map(({ kind, id }) => `${kind} ${id}`),
      [
        'redis 0',
        'nameserver 0',
        'nameserver 1',
        'dataserver 1',
        'dataserver 2',
        'dataserver 3',
        'gateway 0',
        'gateway 1',
      ],
    );
    assert.ok(processes.every(({ state, pid }) => state === 'up' && pid !== null && isRunning(pid)));
    assert.is(new Set(processes.map(({ pid }) => pid)).size, processes.length);
    assert.equal([processes[1]?.role, processes[2]?.role].sort(), ['primary', 'standby']);
    assert.is(processes[3]?.mount, join(cluster.home, 'mounts', 'm1'));
    assert.is(statSync(join(cluster.home, 'secrets', 'token')).mode & 0o777, 0o600);

    const second = await cluster.tool('start');
    assert.is(second.code, 1);
    assert.ok(second.stderr.includes('running already'), second.stderr);
    assert.match(second.stderr, 'npm stop');

    // Everything but PM2: it brings all of it back.
    const before = await cluster.pids();
    kill(before);
    while (!(await cluster.status()).cluster.writable) await sleep(200);
    // Gateways too: which comes back first is up to the process manager.
    while (!(await cluster.status()).processes.every(({ state }) => state === 'up')) await sleep(200);
    assert.equal(await fetched(answer.url), sample);
    const after = await cluster.pids();
    assert.is(after.filter((pid) => before.includes(pid)).length, 0);

    // PM2 alone: what it leaves behind is found and replaced. Then all of it.
    const pm2 = () => Number(readFileSync(join(cluster.home, 'pm2', 'pm2.pid'), 'utf8'));
    kill([pm2()]);
    const orphans = after.filter(isRunning);
    assert.ok(orphans.length >= 4);
    const third = await cluster.tool('start');
    assert.is(third.code, 0, third.stderr);
    assert.match(third.stdout, 'outlived their process manager');
    assert.is(orphans.filter(isRunning).length, 0);
    kill([pm2(), ...(await cluster.pids())]);
    const fourth = await cluster.tool('start');
    assert.is(fourth.code, 0, fourth.stderr);
    assert.equal(await fetched(answer.url), sample);

    const last = [pm2(), ...(await cluster.pids())];
    const stopped = await cluster.tool('stop');
    assert.is(stopped.code, 0, stopped.stderr);
    assert.is(last.filter(isRunning).length, 0);
    for (const name of ['m1', 'm2', 'm3']) {
      const states = await storedStates(join(cluster.home, 'mounts', name));
      assert.ok(states.length > 0);
      assert.equal([...new Set(states)], [BlockState.SEALED], `${name}: nothing is left to be sealed`);
    }
    assert.ok(
      (await cluster.status()).processes.every(({ state, pid }) => state === 'stopped' && pid === null),
    );
    assert.match((await cluster.tool('stop')).stdout, 'nothing');
  });
}, 150_000);
