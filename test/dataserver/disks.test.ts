import { randomBytes } from 'node:crypto';
import { appendFileSync, mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { Stored } from '../../client/client.ts';
import { TfsError } from '../../common/errors.ts';
import type { ServerInfo } from '../../common/wire/control.ts';
import { LocalCluster } from '../kit/local-cluster.ts';
import { mountSmallDisk, unmount } from '../kit/small-disk.ts';
import { describe, type TestContext } from '../kit/suite.ts';

async function until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 15_000) {
  for (const startedAt = performance.now(); !(await condition()); await sleep(20)) {
    if (performance.now() - startedAt > timeoutMs) throw new Error(`waited ${timeoutMs} ms for: ${what}`);
  }
}

const infoOf = async (cluster: LocalCluster, id: number): Promise<ServerInfo> =>
  (await cluster.client.readClusterMap()).servers.find((server) => server.id === id)!;

const ids = ({ members }: Stored): readonly number[] => members;

/** Uploads all the time, and remembers what was acknowledged. */
function load(t: TestContext, cluster: LocalCluster, size = 3000) {
  const acked: { stored: Stored; body: Buffer }[] = [];
  const failures: unknown[] = [];
  let stopped = false;
  const run = async (): Promise<void> => {
    while (!stopped) {
      const body = randomBytes(size);
      try {
        acked.push({ stored: await cluster.client.put(body), body });
      } catch (error) {
        failures.push(error);
      }
      await sleep(5);
    }
  };
  const running = [run(), run(), run()];
  t.defer(() => {
    stopped = true;
    return Promise.all(running);
  });
  return {
    acked,
    failures,
    /** More uploads than now, all without that server. */
    without: async (id: number, count = 40) => {
      let from = acked.length;
      await until(`uploads without server ${id}`, () => {
        const last = acked.findLastIndex(({ stored }) => ids(stored).includes(id));
        from = Math.max(from, last + 1);
        return acked.length - from >= count;
      });
    },
    with: (id: number) => {
      const from = acked.length;
      return until(`uploads to server ${id}`, () =>
        acked.slice(from).some(({ stored }) => ids(stored).includes(id)),
      );
    },
    stop: async () => {
      stopped = true;
      await Promise.all(running);
    },
    allRead: async () => {
      for (const { stored, body } of acked)
        assert.ok((await (await cluster.client.get(stored.name)).bytes()).equals(body), stored.name);
    },
  };
}

describe('disks that fail', (test) => {
  test('a file system that turned read-only: uploads go on elsewhere, reads go on here, and it stays so until a restart', async (t) => {
    const cluster = await LocalCluster.start(t);
    const uploads = load(t, cluster);
    await until('some uploads', () => uploads.acked.length > 30);
    const disk = cluster.disks.get(2)!;
    disk.unwritable = new TfsError('READ_ONLY', 'write: EROFS (the file system is mounted read-only)');
    await uploads.without(2);
    await until('the map shows it', async () => (await infoOf(cluster, 2)).io.readOnly);
    const { io } = await infoOf(cluster, 2);
    assert.match(io.reason!, /restarted.*EROFS/);
    assert.match(String(cluster.servers.get(2)!.status().state), /read-only/);
    await uploads.stop();
    assert.equal(uploads.failures, []);
    const held = uploads.acked.find(({ stored }) => ids(stored).includes(2))!;
    const { block, fileId, cookie } = held.stored.key;
    const { payload } = await cluster.servers
      .get(2)!
      .store.read(block, fileId, cookie, { offset: 0, length: 1e6 }, false);
    assert.ok(payload.equals(held.body), 'it still reads');
    // A new leader cannot be promised anything, but hears what is there to be read.
    await cluster.stopNameServer();
    await cluster.startNameServer();
    await until('it is heard again', async () => (await infoOf(cluster, 2)).state === 'up');
    const { block: known } = held.stored.key;
    await until(
      'its replica is known',
      () =>
        (cluster.nameserver.map.locate(known)?.members as readonly number[] | undefined)?.includes(2) ===
        true,
    );
    disk.unwritable = undefined;
    await sleep(1500);
    assert.is((await infoOf(cluster, 2)).io.readOnly, true, 'nobody can say what was lost meanwhile');
    await cluster.stopServer(2);
    await cluster.startServer(2);
    const again = load(t, cluster);
    await again.with(2);
    await again.stop();
    await uploads.allRead();
  });

  test('a disk that hangs: its uploads and reads go elsewhere, and it is back when it goes on', async (t) => {
    const cluster = await LocalCluster.start(t);
    const uploads = load(t, cluster);
    await until('some uploads', () => uploads.acked.length > 30);
    const disk = cluster.disks.get(2)!;
    disk.hang({ reads: true });
    await uploads.without(2);
    await until('the map shows it', async () => !(await infoOf(cluster, 2)).io.healthy);
    assert.match((await infoOf(cluster, 2)).io.reason!, /hangs/);
    await uploads.allRead();
    assert.is(cluster.servers.get(2)!.pool.openCount, 0, 'its sessions are over');
    disk.release();
    await until('it is healthy', async () => (await infoOf(cluster, 2)).io.healthy);
    assert.is(cluster.servers.get(2)!.store.readOnly, undefined);
    // Nobody places a block on it for a minute: it missed deadlines.
    await uploads.stop();
    assert.equal(uploads.failures, []);
    await uploads.allRead();
  });

  test('a disk on which everything takes half a second longer leaves reads and write sets, and comes back', async (t) => {
    const cluster = await LocalCluster.start(t);
    const uploads = load(t, cluster);
    await until('some uploads', () => uploads.acked.length > 30);
    const disk = cluster.disks.get(3)!;
    disk.delayMs = 500;
    await until('the map shows it', async () => (await infoOf(cluster, 3)).io.slow === true);
    assert.match((await infoOf(cluster, 3)).io.reason!, /slow/);
    await uploads.without(3);
    let asked = 0;
    const { store } = cluster.servers.get(3)!;
    const read = store.read.bind(store);
    store.read = (...args) => {
      asked++;
      return read(...args);
    };
    await uploads.allRead();
    assert.ok(asked <= 3, `it was asked for ${asked} of ${uploads.acked.length} pictures`);
    disk.delayMs = 0;
    await until('it is fast again', async () => (await infoOf(cluster, 3)).io.slow !== true);
    await uploads.with(3);
    await uploads.stop();
    assert.equal(uploads.failures, []);
  });

  test('a full disk: uploads go elsewhere, deletes work, and it fills on when there is room', async (t) => {
    let isMounted = false;
    const cluster = await LocalCluster.start(t, {
      prepareMount: async (id, path) => {
        if (id !== 3) return;
        mkdirSync(path, { recursive: true });
        isMounted = await mountSmallDisk(t, path, '24m');
      },
    });
    if (!isMounted) return;
    const uploads = load(t, cluster, 20_000);
    await until('some uploads', () => uploads.acked.length > 20);
    const filler = join(cluster.mountPath(3), 'filler');
    const { bavail, bsize } = statfsSync(cluster.mountPath(3));
    // Not quite full: appends to the blocks that are open meet the end.
    writeFileSync(filler, Buffer.alloc(bavail * bsize - 100_000));
    await until('the map shows it', async () => (await infoOf(cluster, 3)).io.full === true);
    assert.match((await infoOf(cluster, 3)).io.reason!, /full.*free some space/);
    await uploads.without(3);
    const { io } = await infoOf(cluster, 3);
    assert.is(io.healthy, true, io.reason);
    assert.is(io.readOnly, false, io.reason);
    const deleted = uploads.acked.filter(({ stored }) => ids(stored).includes(3)).slice(0, 10);
    assert.is(deleted.length, 10);
    for (const { stored } of deleted) await cluster.client.remove(stored.name);
    // What raises the epoch has to be promised durably, on this disk as on the others, to the last byte.
    assert.throws(() => {
      for (;;) appendFileSync(filler, Buffer.alloc(4096));
    }, /ENOSPC/);
    await cluster.stopNameServer();
    await cluster.startNameServer();
    await until('it is heard again', async () => (await infoOf(cluster, 3)).state === 'up');
    for (const { stored } of deleted) await cluster.client.undelete(stored.name);
    rmSync(filler);
    await until('the map shows room', async () => (await infoOf(cluster, 3)).io.full !== true);
    await uploads.with(3);
    await uploads.stop();
    assert.equal(uploads.failures, []);
    await uploads.allRead();
  });

  test('a mount that goes away under the process: nothing is written to what is there instead', async (t) => {
    let isMounted = false;
    const cluster = await LocalCluster.start(t, {
      prepareMount: async (id, path) => {
        if (id !== 3) return;
        mkdirSync(path, { recursive: true });
        isMounted = await mountSmallDisk(t, path, '24m');
      },
    });
    if (!isMounted) return;
    const uploads = load(t, cluster);
    await until('some uploads', () => uploads.acked.length > 30);
    await unmount(cluster.mountPath(3));
    await until('the map shows it', async () => (await infoOf(cluster, 3)).io.readOnly);
    const { io } = await infoOf(cluster, 3);
    assert.is(io.healthy, false);
    assert.match(io.reason!, /restarted.*not mounted any more/);
    await uploads.without(3);
    await uploads.stop();
    assert.equal(uploads.failures, []);
    await uploads.allRead();
  });
}, 90_000);
