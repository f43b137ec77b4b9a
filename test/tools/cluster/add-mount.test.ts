import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type ConfigInput, configPath, defaultConfig, loadConfig } from '../../../common/config.ts';
import { isTfsError } from '../../../common/errors.ts';
import { addMount } from '../../../tools/cluster/add-mount.ts';
import { adoptMount } from '../../../tools/cluster/mounts.ts';
import { freePorts } from '../../kit/ports.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

async function homeOf(t: TestContext) {
  const home = tempDir(t, 'tfs-add-');
  const basePort = await freePorts(60);
  const input: ConfigInput = {
    ...defaultConfig({ uuid: 'ab'.repeat(16), basePort }),
    log: { level: 'warn' },
  };
  writeFileSync(configPath(home), JSON.stringify(input));
  return { home, basePort, input };
}

const codeOf = async (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: unknown) => (isTfsError(error) ? `${error.code}: ${error.message}` : String(error)),
  );

describe('a new mount', (test) => {
  test('is entered with an id and ports of its own, and nothing else changes', async (t) => {
    const { home, basePort, input } = await homeOf(t);
    const path = join(home, 'new');
    mkdirSync(join(path, 'lost+found'), { recursive: true });
    const entry = await addMount(await loadConfig(home), { path, domain: 'rack 2' });
    const port = basePort + 28;
    assert.equal(entry, { id: 4, path, host: '127.0.0.1', port, adminPort: port + 1, domain: 'rack 2' });
    const written = JSON.parse(readFileSync(configPath(home), 'utf8')) as ConfigInput;
    assert.equal(written, { ...input, mounts: [...input.mounts, entry] });
    const next = await addMount(await loadConfig(home), { path: join(home, 'another'), capacityBytes: 1e9 });
    assert.equal([next.id, next.port, next.domain, next.capacityBytes], [5, port + 2, 'd5', 1e9]);
    assert.is((await loadConfig(home)).mounts.length, 5);
  });

  test('gets no id that was ever used, and no port that somebody has', async (t) => {
    const { home, basePort, input } = await homeOf(t);
    const config = await loadConfig(home);
    await adoptMount(config, { ...config.mounts[0]!, id: 9, path: join(home, 'm9') });
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(basePort + 29, '127.0.0.1', resolve));
    t.defer(() => server.close());
    const entry = await addMount(config, { path: join(home, 'new') });
    assert.equal([entry.id, entry.port], [10, basePort + 30]);
    assert.is(input.mounts.length, 3);
  });

  test('is refused where something lies in it, or where it is one already', async (t) => {
    const { home } = await homeOf(t);
    const before = readFileSync(configPath(home), 'utf8');
    const config = await loadConfig(home);
    assert.match(await codeOf(addMount(config, { path: home })), 'REFUSED: ');
    assert.match(await codeOf(addMount(config, { path: configPath(home) })), 'REFUSED: ');
    assert.match(await codeOf(addMount(config, { path: config.mounts[0]!.path })), 'CONFIG: ');
    assert.is(readFileSync(configPath(home), 'utf8'), before);
  });
});
