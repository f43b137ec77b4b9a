import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type Config, defaultConfig, parseConfig } from '../../../common/config.ts';
import { isTfsError } from '../../../common/errors.ts';
import { MOUNT_FILE } from '../../../dataserver/mount.ts';
import { recordPath } from '../../../tools/cluster/home.ts';
import { adoptMount, surveyMounts } from '../../../tools/cluster/mounts.ts';
import { describe } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

const uuid = '00112233445566778899aabbccddeeff';
const configIn = (home: string, mounts = 3): Config => parseConfig(defaultConfig({ uuid, mounts }), home);

async function counts(config: Config): Promise<[fresh: number, known: number, missing: number]> {
  const { fresh, known, missing } = await surveyMounts(config);
  return [fresh.length, known.length, missing.length];
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

describe('mounts of a cluster', (test) => {
  test('a mount is formatted the first time it appears, and known from then on', async (t) => {
    const config = configIn(tempDir(t));
    assert.equal(await counts(config), [3, 0, 0]);
    for (const mount of config.mounts) await adoptMount(config, mount);
    assert.equal(await counts(config), [0, 3, 0]);
    assert.equal(await counts(configIn(config.home, 4)), [1, 3, 0]);
  });

  test('a known mount that is empty or gone is missing, and is not formatted', async (t) => {
    const config = configIn(tempDir(t));
    for (const mount of config.mounts) await adoptMount(config, mount);
    const [first, second] = config.mounts as [Config['mounts'][0], Config['mounts'][0]];
    renameSync(first.path, `${first.path}.unmounted`);
    rmSync(second.path, { recursive: true });
    mkdirSync(second.path);
    assert.equal(await counts(config), [0, 1, 2]);
    assert.is(existsSync(join(second.path, MOUNT_FILE)), false);
    renameSync(`${first.path}.unmounted`, first.path);
    assert.equal(await counts(config), [0, 2, 1]);
  });

  test('a crash between formatting and recording is made good by the next start', async (t) => {
    const config = configIn(tempDir(t));
    const mount = config.mounts[0]!;
    await adoptMount(config, mount);
    const before = readFileSync(join(mount.path, MOUNT_FILE));
    rmSync(recordPath(config.home));
    await adoptMount(config, mount);
    assert.equal(readFileSync(join(mount.path, MOUNT_FILE)), before);
    assert.equal(await counts(config), [2, 1, 0]);
  });

  test("a directory that holds anything, or another cluster's disk, is left alone", async (t) => {
    const config = configIn(tempDir(t));
    const mount = config.mounts[0]!;
    mkdirSync(mount.path, { recursive: true });
    writeFileSync(join(mount.path, 'thesis.doc'), 'years of work');
    assert.match(await failure(adoptMount(config, mount)), 'REFUSED');
    assert.is(readFileSync(join(mount.path, 'thesis.doc'), 'utf8'), 'years of work');
    assert.is(existsSync(recordPath(config.home)), false);
    rmSync(join(mount.path, 'thesis.doc'));
    const other = parseConfig({ ...defaultConfig({ uuid: 'f'.repeat(32) }) }, config.home);
    await adoptMount(other, mount);
    rmSync(recordPath(config.home));
    assert.match(await failure(adoptMount(config, mount)), 'REFUSED');
  });

  test('a record that is damaged or of another cluster stops the start', async (t) => {
    const config = configIn(tempDir(t));
    writeFileSync(recordPath(config.home), '{"clusterUuid": "');
    assert.match(await failure(surveyMounts(config)), 'CONFIG');
    writeFileSync(recordPath(config.home), JSON.stringify({ clusterUuid: 'f'.repeat(32), mounts: {} }));
    assert.match(await failure(surveyMounts(config)), 'another cluster');
  });
});
