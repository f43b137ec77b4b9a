import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { configPath, defaultConfig, parseConfig } from '../../common/config.ts';
import { EXIT_REFUSED } from '../../common/limits.ts';
import { ensureClusterKey } from '../../common/secrets.ts';
import { freePorts } from '../kit/ports.ts';
import { describe, type TestContext } from '../kit/suite.ts';
import { tempDir } from '../kit/temp-dir.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'nameserver', 'main.ts');

interface Started {
  readonly child: ChildProcess;
  /** Resolves with `ready`, or with the exit code when it ended before. */
  readonly outcome: Promise<'ready' | number | null>;
  readonly output: () => string;
}

/** @param count of NameServers; with one, as written by an older version, that one leads always */
async function home(t: TestContext, count: 1 | 2 = 1): Promise<{ home: string; adminPort: number }> {
  const directory = tempDir(t, 'tfs-ns-');
  const basePort = await freePorts(40);
  const two = defaultConfig({ uuid: 'ab'.repeat(16), basePort });
  const input = { ...two, nameservers: two.nameservers.slice(0, count) };
  writeFileSync(configPath(directory), JSON.stringify(input));
  await ensureClusterKey(directory);
  const { adminPort } = parseConfig(input, directory).nameservers[0]!;
  return { home: directory, adminPort };
}

function start(t: TestContext, directory: string, id = '0'): Started {
  const child = spawn(process.execPath, ['--import', 'tsx', MAIN], {
    env: { ...process.env, TFS_HOME: directory, TFS_NAMESERVER: id },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let output = '';
  for (const stream of [child.stdout!, child.stderr!])
    stream.on('data', (data) => {
      output += String(data);
    });
  const outcome = new Promise<'ready' | number | null>((resolve) => {
    child.once('message', () => resolve('ready'));
    child.once('close', (code) => resolve(code));
  });
  t.defer(() => child.kill('SIGKILL'));
  return { child, outcome, output: () => output };
}

async function stop({ child }: Started, signal: NodeJS.Signals): Promise<number | null> {
  const closed = once(child, 'close');
  child.kill(signal);
  return (await closed)[0] as number | null;
}

const epochOf = async (port: number): Promise<unknown> => {
  const reply = await fetch(`http://127.0.0.1:${port}/healthz`);
  const body = (await reply.json()) as { ok: boolean; state: string; details: { epoch: number } };
  assert.equal([reply.status, body.ok, body.state], [200, true, 'safe mode']);
  return body.details.epoch;
};

describe('NameServer process', (test) => {
  test('starts, answers, refuses a second one, stops on either signal, and each life has a new epoch', async (t) => {
    const place = await home(t);
    const first = start(t, place.home);
    assert.is(await first.outcome, 'ready', first.output());
    assert.is(await epochOf(place.adminPort), 1);
    const metrics = await (await fetch(`http://127.0.0.1:${place.adminPort}/metrics`)).text();
    assert.match(metrics, /^tfs_nameserver_leads\{[^}]*\} 1$/m);
    const second = start(t, place.home);
    assert.is(await second.outcome, EXIT_REFUSED);
    assert.match(second.output(), /another NameServer process runs on/);
    assert.is(await stop(first, 'SIGINT'), 0);
    const third = start(t, place.home);
    assert.is(await third.outcome, 'ready', third.output());
    assert.is(await epochOf(place.adminPort), 3);
    await stop(third, 'SIGKILL');
    const fourth = start(t, place.home);
    assert.is(await fourth.outcome, 'ready', fourth.output());
    assert.is(await epochOf(place.adminPort), 5);
    assert.is(await stop(fourth, 'SIGTERM'), 0);
  });

  test('an id that the configuration does not have, and a configuration that cannot work, are refused', async (t) => {
    const wrongId = start(t, (await home(t)).home, '1');
    assert.is(await wrongId.outcome, EXIT_REFUSED);
    assert.match(wrongId.output(), /TFS_NAMESERVER=1 is not the id of a NameServer in config\.json/);
    const mounts = [1, 2, 3].map((id) => ({
      id,
      path: `m${id}`,
      port: 9000 + id,
      adminPort: 9100 + id,
      domain: 'one',
    }));
    const directory = tempDir(t, 'tfs-ns-');
    const input = { ...defaultConfig({ uuid: 'ab'.repeat(16) }), mounts };
    writeFileSync(configPath(directory), JSON.stringify(input));
    const refused = start(t, directory);
    assert.is(await refused.outcome, EXIT_REFUSED);
    assert.match(refused.output(), /minWrite.*failure domains/);
  });
}, 60_000);
