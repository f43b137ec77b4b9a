import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import * as assert from 'uvu/assert';
import { defaultConfig, parseConfig } from '../../../common/config.ts';
import { appsOf } from '../../../tools/cluster/ecosystem.ts';
import { PACKAGE_ROOT } from '../../../tools/cluster/home.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

/** More than PM2's own limit of 16 quick exits, at which it gives a process up without saying so. */
const TIMES = 20;

/** Runs one script under a real PM2 with the options that servers are given. */
async function underPm2(t: TestContext, script: string) {
  const home = tempDir(t, 'tfs-pm2-');
  writeFileSync(join(home, 'app.cjs'), script);
  writeFileSync(join(home, 'starts'), '');
  const config = parseConfig(defaultConfig({ uuid: '0'.repeat(32) }), home);
  const server = appsOf(config, {}).find(({ name }) => name === 'dataserver-1');
  const app = { ...server, script: join(home, 'app.cjs'), wait_ready: false, env: {} };
  writeFileSync(join(home, 'app.config.cjs'), `module.exports = { apps: [${JSON.stringify(app)}] }`);
  const run = async (...args: string[]): Promise<string> => {
    const env = { PATH: process.env['PATH'], HOME: home, PM2_HOME: home, PM2_DISABLE_VERSION_CHECK: '1' };
    const pm2 = join(PACKAGE_ROOT, 'node_modules', 'pm2', 'bin', 'pm2');
    return (await promisify(execFile)(process.execPath, [pm2, '-s', ...args], { env })).stdout;
  };
  t.defer(() => run('kill'));
  await run('start', join(home, 'app.config.cjs'));
  const starts = (): number[] => {
    const text = readFileSync(join(home, 'starts'), 'utf8');
    return text.split('\n').filter(Boolean).map(Number);
  };
  return { run, starts };
}

const NOTE_START = `require('node:fs').appendFileSync(__dirname + '/starts', process.pid + '\\n');`;

describe('restarts by PM2', (test) => {
  test(`a process that ended ${TIMES} times within a second is still tried again, without a growing delay`, async (t) => {
    const { starts, run } = await underPm2(
      t,
      `${NOTE_START}
         const count = require('node:fs').readFileSync(__dirname + '/starts', 'utf8').split('\\n').length - 1;
         if (count <= ${TIMES}) process.exit(1);
         setInterval(() => {}, 1e6);`,
    );
    while (starts().length <= TIMES) await sleep(100);
    const [app] = JSON.parse(await run('jlist'));
    assert.is(app.pm2_env.status, 'online');
    assert.is(app.pid, starts().at(-1));
  });

  test(`a process that was killed ${TIMES} times comes back every time`, async (t) => {
    const { starts } = await underPm2(t, `${NOTE_START} setInterval(() => {}, 1e6);`);
    for (let kills = 1; kills <= TIMES; kills++) {
      while (starts().length < kills) await sleep(20);
      process.kill(starts().at(-1)!, 'SIGKILL');
    }
    while (starts().length <= TIMES) await sleep(20);
    assert.is(new Set(starts()).size, TIMES + 1);
  });

  test('a process that refused to start stays stopped, with its exit code to see', async (t) => {
    const { starts, run } = await underPm2(t, `${NOTE_START} process.exit(78);`);
    await sleep(1500);
    assert.is(starts().length, 1);
    const [app] = JSON.parse(await run('jlist'));
    assert.equal([app.pid, app.pm2_env.exit_code], [0, 78]);
  });
}, 60_000);
