import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { type ConfigInput, configPath, defaultConfig } from '../../common/config.ts';
import { serverId } from '../../common/ids.ts';
import { ensureClusterKey } from '../../common/secrets.ts';
import { formatMount } from '../../dataserver/mount.ts';
import { freePorts } from '../kit/ports.ts';
import { mountSmallDisk, remount } from '../kit/small-disk.ts';
import { describe, type TestContext } from '../kit/suite.ts';
import { tempDir } from '../kit/temp-dir.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const uuid = 'ab'.repeat(16);

/** A home with three formatted mounts; no NameServer runs, and none is needed for a DataServer to start. */
class Home {
  readonly path: string;
  readonly input: ConfigInput;
  readonly #t: TestContext;

  private constructor(t: TestContext, path: string, input: ConfigInput) {
    this.#t = t;
    this.path = path;
    this.input = input;
    writeFileSync(configPath(path), JSON.stringify(input));
  }

  static async make(t: TestContext, prepareMount?: (path: string) => Promise<unknown>): Promise<Home> {
    const path = tempDir(t, 'tfs-home-');
    const home = new Home(t, path, defaultConfig({ uuid, basePort: await freePorts(40) }));
    await ensureClusterKey(path);
    for (const { id, path: mount } of home.input.mounts) {
      mkdirSync(join(path, mount), { recursive: true });
      if (id === 1) await prepareMount?.(join(path, mount));
      await formatMount({ path: join(path, mount), clusterUuid: uuid, server: serverId(id) });
    }
    return home;
  }

  /** Another home, on other ports, whose mounts are these. */
  async twin(change: (config: ConfigInput) => ConfigInput = (config) => config): Promise<Home> {
    const path = tempDir(this.#t, 'tfs-home-');
    const ports = defaultConfig({ uuid, basePort: await freePorts(40) });
    const mounts = ports.mounts.map((mount) => ({ ...mount, path: this.mount(mount.id) }));
    await ensureClusterKey(path);
    return new Home(this.#t, path, change({ ...ports, mounts }));
  }

  mount(id: number): string {
    return join(this.path, this.input.mounts.find((mount) => mount.id === id)!.path);
  }

  /** Starts a DataServer; it is killed when the test is over. */
  start(id: number) {
    const child = spawn(process.execPath, ['--import', 'tsx', join(ROOT, 'dataserver', 'main.ts')], {
      cwd: ROOT,
      env: { ...process.env, TFS_HOME: this.path, TFS_SERVER: String(id) },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    let output = '';
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (data: Buffer) => {
        output += data.toString();
      });
    const ended = new Promise<{ code: number | null; output: string }>((resolve) =>
      child.once('close', (code) => resolve({ code, output })),
    );
    const ready = new Promise<void>((resolve, reject) => {
      child.once('message', () => resolve());
      child.once('close', () => reject(new Error(`it ended: ${output}`)));
    });
    ready.catch(() => undefined);
    this.#t.defer(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    return { ended, ready };
  }
}

async function refused(home: Home, id: number): Promise<string> {
  const { code, output } = await home.start(id).ended;
  assert.is(code, 78, output);
  return output;
}

describe('a DataServer process that must not start', (test) => {
  test('its directory is gone, or holds no mount', async (t) => {
    const home = await Home.make(t);
    renameSync(home.mount(1), `${home.mount(1)}.away`);
    assert.match(await refused(home, 1), /does not exist\. Is the disk of DataServer 1 mounted\?/);
    mkdirSync(home.mount(1));
    assert.match(await refused(home, 1), /not mounted, mount it/);
  });

  test("another server's disk, and another cluster's", async (t) => {
    const home = await Home.make(t);
    const swapped = await home.twin((config) => ({
      ...config,
      mounts: config.mounts
        .map((mount) => (mount.id === 1 ? { ...mount, path: home.mount(2) } : mount))
        .slice(0, 1),
      cluster: { ...config.cluster, minWrite: 1 },
    }));
    assert.match(await refused(swapped, 1), /is the disk of DataServer 2, not of DataServer 1/);
    const foreign = await home.twin((config) => ({
      ...config,
      cluster: { ...config.cluster, uuid: 'cd'.repeat(16) },
    }));
    assert.match(await refused(foreign, 1), new RegExp(`belongs to cluster ${uuid}`));
  });

  test('a second process on one mount, of the same home or of another one', async (t) => {
    const home = await Home.make(t);
    const first = home.start(1);
    await first.ready;
    assert.match(await refused(home, 1), /served by another process already/);
    assert.match(await refused(await home.twin(), 1), /served by another process already/);
    const state = await Promise.race([first.ended, sleep(1500).then(() => 'it runs on')]);
    assert.is(state, 'it runs on');
  });

  test('a file system that is mounted read-only', async (t) => {
    let isMounted = false;
    const home = await Home.make(t, async (path) => {
      isMounted = await mountSmallDisk(t, path, '16m');
    });
    if (!isMounted) return;
    await remount(home.mount(1), 'ro');
    assert.match(await refused(home, 1), /mounted read-only.*kernel log.*remount it for writing/);
    await remount(home.mount(1), 'rw');
    await home.start(1).ready;
  });
}, 60_000);

describe('a DataServer process whose mount is taken', (test) => {
  test('ends when another one serves it, which only a removed lock makes possible', async (t) => {
    const home = await Home.make(t);
    const first = home.start(1);
    await first.ready;
    rmSync(join(home.mount(1), 'kv'), { recursive: true });
    const second = (await home.twin()).start(1);
    await second.ready;
    const { code, output } = await first.ended;
    assert.is(code, 1, 'the process manager may start it again: then the lock decides');
    assert.match(output, /served by another process/);
    assert.match(await refused(home, 1), /served by another process already/);
    assert.match(readFileSync(join(home.mount(1), 'incarnation.tfs'), 'utf8'), /"incarnation":2/);
  });
}, 60_000);
