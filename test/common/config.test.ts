import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import {
  type ConfigInput,
  configPath,
  defaultConfig,
  homeFromEnv,
  loadConfig,
  parseConfig,
  portsOf,
} from '../../common/config.ts';
import { isTfsError } from '../../common/errors.ts';
import { describe } from '../kit/suite.ts';
import { tempDir } from '../kit/temp-dir.ts';

const uuid = '00112233445566778899aabbccddeeff';
const valid = (): ConfigInput => defaultConfig({ uuid });

/** @returns the message of the CONFIG error that the value causes */
function refusal(value: unknown): string {
  try {
    parseConfig(value, '/cluster');
  } catch (error) {
    assert.ok(isTfsError(error, 'CONFIG'), String(error));
    return error.message;
  }
  throw new Error('it was accepted');
}

describe('config', (test) => {
  test('the default is valid, and paths become absolute below the home', () => {
    const config = parseConfig(valid(), '/cluster');
    assert.is(config.home, '/cluster');
    assert.equal(
      config.mounts.map((mount) => mount.path),
      ['/cluster/mounts/m1', '/cluster/mounts/m2', '/cluster/mounts/m3'],
    );
    assert.is(config.nameservers[0]?.dir, '/cluster/ns0');
    assert.is(config.cluster.minWrite, 2);
    assert.is(config.cluster.deadMs, 600_000);
    assert.is(config.dataserver.blockBytes, 64 * 1024 * 1024);
    assert.equal(
      parseConfig(
        { ...valid(), mounts: [{ ...valid().mounts[0]!, path: '/disk' }, valid().mounts[1]] },
        '/c',
      ).mounts.map((mount) => mount.path),
      ['/disk', '/c/mounts/m2'],
    );
  });

  test('a default configuration of any size has no two processes on one port', () => {
    for (const mounts of [1, 2, 3, 8, 30]) {
      const config = parseConfig(defaultConfig({ uuid, mounts, basePort: 9000 }), '/cluster');
      const ports = portsOf(config).map((use) => use.port);
      assert.is(new Set(ports).size, ports.length);
      // gateway and its two workers, redis, two of each NameServer, two of each DataServer
      assert.is(ports.length, 8 + 2 * mounts);
    }
  });

  test('an unknown key is refused by its full name and the file, wherever it is', () => {
    const top = refusal({ ...valid(), mountz: [] });
    assert.match(top, 'unknown key "mountz"');
    assert.match(top, '/cluster/config.json');
    assert.match(
      refusal({ ...valid(), gateway: { ...valid().gateway, hotbytes: 1 } }),
      'unknown key "gateway.hotbytes"',
    );
    const mounts = valid().mounts.map((mount) => ({ ...mount, wieght: 2 }));
    assert.match(refusal({ ...valid(), mounts }), 'unknown key "mounts[0].wieght"');
  });

  test('a wrong value is named with what is wrong', () => {
    assert.match(refusal({ ...valid(), gateway: { ...valid().gateway, port: 70_000 } }), 'gateway.port');
    assert.match(refusal({ ...valid(), cluster: { uuid: 'x' } }), 'cluster.uuid: must be 32 hex digits');
    assert.match(refusal('text'), 'the file');
    assert.match(
      refusal({ ...valid(), compaction: { bytesPerSecond: 1_000_000 } }),
      'compaction.bytesPerSecond',
    );
    assert.match(refusal({ ...valid(), compaction: { garbagePercent: 0 } }), 'compaction.garbagePercent');
  });

  test('fewer failure domains than minWrite are refused, naming the setting', () => {
    const mounts = valid().mounts.map((mount) => ({ ...mount, domain: 'one' }));
    assert.match(refusal({ ...valid(), mounts }), 'cluster.minWrite');
    assert.match(refusal({ ...valid(), cluster: { uuid, minWrite: 3, replicas: 2 } }), 'cluster.replicas 2');
    const single = { ...valid(), mounts: mounts.slice(0, 1), cluster: { uuid, minWrite: 1 } };
    assert.is(parseConfig(single, '/cluster').mounts.length, 1);
  });

  test('ids, paths and ports that are used twice are refused', () => {
    const [first, second, third] = valid().mounts as [
      ConfigInput['mounts'][0],
      ConfigInput['mounts'][0],
      ConfigInput['mounts'][0],
    ];
    assert.match(
      refusal({ ...valid(), mounts: [first, { ...second, id: first.id }, third] }),
      'mounts[1].id',
    );
    assert.match(refusal({ ...valid(), mounts: [first, { ...second, path: first.path }] }), 'mounts[1].path');
    assert.match(
      refusal({ ...valid(), mounts: [first, { ...second, port: valid().gateway.port }, third] }),
      'port 7500 is given to both gateway.port and mounts[1].port',
    );
  });

  test('a picture that cannot fill half a block is refused, and so is no Redis at all', () => {
    const gateway = { ...valid().gateway, maxPictureBytes: 40 * 1024 * 1024 };
    assert.match(refusal({ ...valid(), gateway }), 'dataserver.blockBytes');
    assert.match(refusal({ ...valid(), redis: {} }), '"url"');
    assert.match(refusal({ ...valid(), redis: { url: 'http://x' } }), 'redis.url');
  });

  test('a missing or broken file says what to do', async (t) => {
    const home = tempDir(t);
    const message = async () => {
      try {
        await loadConfig(home);
      } catch (error) {
        return isTfsError(error, 'CONFIG') ? error.message : `not CONFIG: ${error}`;
      }
      return 'loaded';
    };
    assert.match(await message(), 'npm start');
    writeFileSync(configPath(home), '{"cluster": ');
    assert.match(await message(), `${join(home, 'config.json')} is not JSON`);
    writeFileSync(configPath(home), JSON.stringify(valid()));
    assert.is(await message(), 'loaded');
  });

  test('the home is TFS_HOME, else .tfs here; always absolute', () => {
    assert.is(homeFromEnv({ TFS_HOME: '/var/lib/tfs/' }), '/var/lib/tfs');
    assert.is(homeFromEnv({}), join(process.cwd(), '.tfs'));
    assert.is(homeFromEnv({ TFS_HOME: '' }), join(process.cwd(), '.tfs'));
  });
});
