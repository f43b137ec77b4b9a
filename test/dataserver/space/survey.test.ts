import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { recordSpan } from '../../../common/format/record.ts';
import { elsewhereBytes, type SpaceUse, takenBytes } from '../../../common/wire/space.ts';
import { spaceTables } from '../../../tools/cli/space-tables.ts';
import { LocalCluster } from '../../kit/local-cluster.ts';
import { mountSmallDisk } from '../../kit/small-disk.ts';
import { describe } from '../../kit/suite.ts';

const PICTURES = 200;
const SIZE_MAX = 120_000;
const ORPHAN_AGE_MS = 3 * 24 * 3600 * 1000;

/** What the system says that the files and directories take. */
const duOf = (path: string): number =>
  Number(execFileSync('du', ['-s', '-B1', path], { encoding: 'utf8' }).split('\t')[0]);

const near = (a: number, b: number, of: number): boolean => Math.abs(a - b) <= of / 1000;

describe('what is on the disks of a cluster', (test) => {
  test('live, deleted, overheads and free add up to the disk, by the bytes that were stored', async (t) => {
    let ownDisks = 0;
    const cluster = await LocalCluster.start(t, {
      prepareMount: async (_, path) => {
        mkdirSync(path, { recursive: true });
        if (await mountSmallDisk(t, path, '64m')) ownDisks++;
      },
    });
    // Before their disks go.
    t.defer(async () => {
      for (const id of [1, 2, 3]) await cluster.stopServer(id);
    });
    const { client } = cluster;
    const stored: { name: string; body: Buffer }[] = [];
    let [live, deleted] = [0, 0];
    for (let i = 0; i < PICTURES; i++) {
      const body = randomBytes(1 + ((i * 7919) % SIZE_MAX));
      const { name, deduplicated } = await client.put(body);
      assert.not(deduplicated);
      stored.push({ name, body });
      live += recordSpan(body.length);
    }
    // Second names: of every tenth picture, if its block is still one for aliases; bytes only where it is not.
    const aliases = new Map<string, string>();
    for (const { name, body } of stored.filter((_, i) => i % 10 === 0)) {
      const again = await client.put(body);
      if (again.deduplicated) aliases.set(name, again.name);
      else live += recordSpan(body.length);
    }
    assert.ok(aliases.size > 10, `${aliases.size} aliases`);
    for (const [i, { name, body }] of stored.entries()) {
      if (i % 4 !== 0) continue;
      await client.remove(name);
      const alias = aliases.get(name);
      // One of two names is deleted of some, both of others.
      if (alias !== undefined && i % 8 === 0) continue;
      if (alias !== undefined) await client.remove(alias);
      live -= recordSpan(body.length);
      deleted += recordSpan(body.length);
    }
    const path = cluster.mountPath(2);
    for (const name of ['blocks/core.1234', 'notes.txt', 'surplus/1.0.5000.surplus']) {
      writeFileSync(join(path, name), randomBytes(3000));
      const old = (Date.now() - ORPHAN_AGE_MS) / 1000;
      utimesSync(join(path, name), old, old);
    }
    await sleep(300);
    for (const id of [1, 2, 3]) {
      const use = await measured(cluster, id);
      const { parts } = use;
      assert.is(parts.live, live, `live on server ${id}`);
      assert.is(parts.inWindow, deleted, `deleted on server ${id}`);
      assert.equal([parts.garbage, parts.lost, parts.quarantined, parts.generations], [0, 0, 0, 0]);
      const du = duOf(cluster.mountPath(id));
      assert.ok(near(takenBytes(parts), du, use.totalBytes), `${takenBytes(parts)} is the ${du} of du`);
      assert.ok(near(takenBytes(parts), du, 10 * du), `${takenBytes(parts)} is the ${du} of du`);
      if (ownDisks === 3)
        assert.ok(elsewhereBytes(use) <= use.totalBytes / 1000, `${elsewhereBytes(use)} are elsewhere`);
      const isOdd = id === 2;
      assert.is(use.orphans.files, isOdd ? 3 : 0);
      assert.is(use.orphans.bytes, isOdd ? 9000 : 0);
      if (isOdd) assert.ok(Math.abs(use.orphans.oldestMs - ORPHAN_AGE_MS) < 60_000);
    }
    if (ownDisks === 0)
      console.log('SKIPPED the comparison with the file system: no disks of their own here');
    const { blocks, rows } = await cluster.servers.get(1)!.spaceSurvey.blocks(1000);
    assert.is(blocks, rows.length);
    const sum = (part: 'live' | 'inWindow') => rows.reduce((total, row) => total + row.parts[part], 0);
    assert.equal([sum('live'), sum('inWindow')], [live, deleted], 'block by block');
    const inOrder = rows.map(({ parts }) => parts.inWindow);
    assert.equal(
      inOrder,
      [...inOrder].sort((a, b) => b - a),
    );
    assert.is((await cluster.servers.get(1)!.spaceSurvey.blocks(2)).rows.length, 2);
    const figures = () => cluster.nameserver.members.figures();
    const areTold = () => figures().every(({ id, use }) => use?.orphans.files === (id === 2 ? 3 : 0));
    for (let tries = 0; tries < 100 && !areTold(); tries++) await sleep(50);
    const text = spaceTables(figures(), Date.now());
    assert.match(text, /^DATASERVER +LIVE +IN WINDOW/);
    assert.match(text, /\nall +\d/);
    assert.match(text, 'Orphans   server 2: 3 files, 0.0 MB, the oldest 3 d old');
    console.log(text);
  });

  test('after a restart the same is known, before any picture was read', async (t) => {
    const cluster = await LocalCluster.start(t);
    const names: string[] = [];
    const isSealed = () => {
      const { blocks, unsealedBlocks } = cluster.servers.get(1)!.store.totals();
      return blocks - unsealedBlocks >= 2;
    };
    while (!isSealed()) names.push((await cluster.client.put(randomBytes(30_000))).name);
    for (const name of names.filter((_, i) => i % 3 === 0)) await cluster.client.remove(name);
    await sleep(200);
    const before = (await measured(cluster, 1)).parts;
    assert.ok(before.inWindow > 0);
    await cluster.stopServer(1);
    await cluster.startServer(1);
    for (let tries = 0; tries < 200; tries++) {
      const { parts } = await measured(cluster, 1);
      // What was open is walked in the background.
      if (parts.live === before.live && parts.inWindow === before.inWindow) return;
      await sleep(50);
    }
    assert.equal((await measured(cluster, 1)).parts, before);
  });
}, 60_000);

const measured = (cluster: LocalCluster, id: number): Promise<SpaceUse> =>
  cluster.servers.get(id)!.spaceSurvey.measure();
