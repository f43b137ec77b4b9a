import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { type Config, defaultConfig, parseConfig } from '../../../common/config.ts';
import { isTfsError } from '../../../common/errors.ts';
import { redisAddress, redisUrl } from '../../../common/redis-address.ts';
import {
  checkOwnRedis,
  findRedisServer,
  pingRedis,
  preparePrivateRedis,
  redisConfPath,
  withoutPassword,
} from '../../../tools/cluster/redis.ts';
import { freePorts } from '../../kit/ports.ts';
import { readSecretOf } from '../../kit/secrets.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

const REDIS = findRedisServer(process.env);

async function started(t: TestContext, args: string[], url: string): Promise<ChildProcess> {
  const child = spawn(REDIS ?? '', args, { stdio: 'ignore' });
  const ended = once(child, 'exit');
  t.defer(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  while (
    !(await pingRedis(url).then(
      () => true,
      () => false,
    ))
  )
    await sleep(30);
  return child;
}

async function failure(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (isTfsError(error)) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'no error';
}

async function privateRedis(t: TestContext): Promise<Config> {
  const home = tempDir(t);
  const port = await freePorts(1);
  const config = parseConfig({ ...defaultConfig({ uuid: '0'.repeat(32) }), redis: { port } }, home);
  await preparePrivateRedis(config);
  await started(t, [redisConfPath(home)], await redisAddress(config, {}));
  return config;
}

describe('Redis', (test) => {
  const withRedis = REDIS === undefined ? test.skip : test;

  withRedis('the private one wants its password, keeps nothing on disk, and never evicts', async (t) => {
    const config = await privateRedis(t);
    const url = await redisAddress(config, {});
    await pingRedis(url);
    assert.is(await failure(checkOwnRedis(url)), 'no error');
    assert.match(await failure(pingRedis(`redis://127.0.0.1:${config.redis.port}`)), 'NOAUTH');
    assert.is(url, `redis://:${readSecretOf(config.home, 'redis')}@127.0.0.1:${config.redis.port}`);
  });

  withRedis('a second one on the same place fails instead of taking it over', async (t) => {
    const config = await privateRedis(t);
    const second = spawn(REDIS ?? '', [redisConfPath(config.home)], { stdio: 'ignore' });
    const [code] = await once(second, 'exit');
    assert.is.not(code, 0);
    await pingRedis(await redisAddress(config, {}));
  });

  withRedis('one that evicts is refused, with the reason and the command', async (t) => {
    const port = await freePorts(1);
    const url = `redis://127.0.0.1:${port}`;
    const args = [
      '--port',
      String(port),
      '--save',
      '',
      '--maxmemory-policy',
      'allkeys-lru',
      '--dir',
      tempDir(t),
    ];
    await started(t, args, url);
    const said = await failure(checkOwnRedis(url));
    assert.match(said, /^CONFIG .*allkeys-lru.*throws away keys/);
    assert.match(said, `redis-cli -u ${url} config set maxmemory-policy noeviction`);
  });

  test('one that does not answer is named without its password', async () => {
    const port = await freePorts(1);
    const said = await failure(checkOwnRedis(`redis://user:hunter2@127.0.0.1:${port}/0`));
    assert.match(said, /^UNAVAILABLE .*ECONNREFUSED/);
    assert.is(said.includes('hunter2'), false);
    assert.is(withoutPassword('redis://user:hunter2@cache:6379'), 'redis://cache:6379');
  });

  test('the environment goes before the configuration', async (t) => {
    const input = defaultConfig({ uuid: '0'.repeat(32) });
    const own = parseConfig({ ...input, redis: { url: 'redis://b' } }, tempDir(t));
    const none = parseConfig(input, tempDir(t));
    assert.is(redisUrl(own, { REDIS_URL: 'redis://a' }), 'redis://a');
    assert.is(redisUrl(own, {}), 'redis://b');
    assert.is(redisUrl(none, {}), undefined);
  });

  test('a server program that is named and is not there is not replaced by another', () => {
    assert.is(findRedisServer({ REDIS_SERVER: '/nowhere/redis-server', PATH: '/usr/bin' }), undefined);
    assert.is(findRedisServer({ REDIS_SERVER: process.execPath }), process.execPath);
  });
}, 30_000);
