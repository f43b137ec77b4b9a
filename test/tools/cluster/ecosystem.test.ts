import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type ConfigInput, defaultConfig, parseConfig } from '../../../common/config.ts';
import { EXIT_REFUSED, STOP_MS_MAX } from '../../../common/limits.ts';
import { appsOf } from '../../../tools/cluster/ecosystem.ts';
import { PACKAGE_ROOT, pm2Home } from '../../../tools/cluster/home.ts';
import { describe } from '../../kit/suite.ts';

const HOME = '/var/lib/tfs';
const input: ConfigInput = defaultConfig({ uuid: '00112233445566778899aabbccddeeff' });
const names = (value: ConfigInput, env = {}) => appsOf(parseConfig(value, HOME), env).map((app) => app.name);

describe('ecosystem', (test) => {
  test('has a process for everything in the configuration', () => {
    assert.equal(names(input), [
      'redis',
      'nameserver-0',
      'nameserver-1',
      'dataserver-1',
      'dataserver-2',
      'dataserver-3',
      'gateway',
    ]);
  });

  test('a mount more is a process more', () => {
    const fourth = {
      id: 4,
      path: '/disk4',
      port: 7600,
      adminPort: 7601,
      domain: 'd4',
      host: '127.0.0.1',
    };
    const more = { ...input, mounts: [...input.mounts, fourth] };
    assert.equal(
      names(more).filter((name) => !names(input).includes(name)),
      ['dataserver-4'],
    );
    const app = appsOf(parseConfig(more, HOME), {}).find(({ name }) => name === 'dataserver-4');
    assert.is(app?.env['TFS_SERVER'], '4');
    assert.is(app?.env['TFS_HOME'], HOME);
  });

  test('a Redis of the operator replaces the private one', () => {
    assert.is(names({ ...input, redis: { url: 'redis://cache:6379' } }).includes('redis'), false);
    assert.is(names(input, { REDIS_URL: 'redis://cache:6379' }).includes('redis'), false);
    assert.is(names(input, { REDIS_URL: '' }).includes('redis'), true);
  });

  test('servers are given time to stop, wait to be ready, and are not restarted after a refusal', () => {
    for (const app of appsOf(parseConfig(input, HOME), {})) {
      assert.equal(app['stop_exit_codes'], [EXIT_REFUSED]);
      assert.is(app['exp_backoff_restart_delay'], undefined);
      if (app.name === 'redis') continue;
      assert.is(app['wait_ready'], true);
      assert.ok(Number(app['kill_timeout']) > STOP_MS_MAX);
      assert.ok(app.script.startsWith(join(PACKAGE_ROOT, 'dist')));
    }
  });

  test('the gateway runs in cluster mode with its workers', () => {
    const workers = (count: number) => {
      const gateway = { ...input.gateway, workers: count };
      return appsOf(parseConfig({ ...input, gateway }, HOME), {}).find(({ name }) => name === 'gateway');
    };
    assert.equal([workers(2)?.['exec_mode'], workers(2)?.['instances']], ['cluster', 2]);
    assert.is(workers(5)?.['instances'], 5);
  });

  test('no process is given a secret', () => {
    const text = JSON.stringify(
      appsOf(parseConfig(input, HOME), { TFS_TOKEN: 'hunter2', SECRET: 'hunter2' }),
    );
    assert.is(text.includes('hunter2'), false);
  });

  test("PM2's directory lies in the home, or somewhere short when its sockets would not fit", () => {
    assert.is(pm2Home(HOME), `${HOME}/pm2`);
    const deep = `/${'a-long-directory-name/'.repeat(8)}home`;
    assert.ok(pm2Home(deep).length < 60);
    assert.is(pm2Home(deep), pm2Home(deep));
    assert.is.not(pm2Home(deep), pm2Home(`${deep}2`));
  });
});
