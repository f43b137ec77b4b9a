import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { ProcessCluster, tinyPng } from '../kit/process-cluster.ts';
import { describe } from '../kit/suite.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '..', '..');
const sha1 = (b: Buffer): string => createHash('sha1').update(b).digest('hex');
const photo = (seed: number): Promise<Buffer> =>
  sharp(randomBytes(64 * 48 * 3), { raw: { width: 64, height: 48, channels: 3 } })
    .modulate({ brightness: 1 + seed / 100 })
    .jpeg({ quality: 90 })
    .toBuffer();

const tfs = (cluster: ProcessCluster, ...args: string[]) =>
  run(process.execPath, ['--import', 'tsx', join(ROOT, 'tools', 'tfs.ts'), ...args], {
    cwd: ROOT,
    env: { ...process.env, TFS_HOME: cluster.home },
  });

/** Block files of one mount by block id. */
function blockFiles(cluster: ProcessCluster, server: number): Map<string, string> {
  const dir = join(cluster.mountPath(server), 'blocks');
  const files = readdirSync(dir, { recursive: true }) as string[];
  return new Map(files.filter((f) => f.endsWith('.blk')).map((f) => [f.split('/').at(-1)!, join(dir, f)]));
}

function usedBytes(cluster: ProcessCluster, needle: Buffer): number {
  let found = 0;
  for (const file of blockFiles(cluster, 1).values()) {
    const bytes = readFileSync(file);
    for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + 1)) found++;
  }
  return found;
}

describe('a tour of the cluster', (test) => {
  test('pictures come back byte for byte, revalidate, and serve ranges', async (t) => {
    const cluster = await ProcessCluster.start();
    t.defer(() => cluster.destroy());
    const body = await photo(1);
    const put = await cluster.put(body, { headers: { 'content-type': 'text/plain' } });
    assert.is(put.status, 201, put.text);
    assert.is(put.json['size'], body.length);
    assert.is(put.json['sha1'], sha1(body));
    assert.is(put.json['mediaType'], 'image/jpeg');
    assert.is(put.json['width'], 64);
    assert.is(put.json['height'], 48);
    assert.is(put.json['deduplicated'], false);
    const got = await cluster.get(put.name);
    assert.is(got.status, 200);
    assert.ok(got.body.equals(body));
    assert.is(got.headers['etag'], `"${sha1(body)}"`);
    assert.is((await cluster.get(put.name, { 'if-none-match': `"${sha1(body)}"` })).status, 304);
    const range = await cluster.get(put.name, { range: 'bytes=10-29' });
    assert.is(range.status, 206);
    assert.ok(range.body.equals(body.subarray(10, 30)));

    // The same picture again: a second name, no second payload, and names that live and die on their own.
    const again = await cluster.put(body);
    assert.is(again.status, 201, again.text);
    assert.is(again.json['deduplicated'], true);
    assert.is.not(again.name, put.name);
    assert.is(usedBytes(cluster, body), 1, 'one payload on disk');
    assert.is(await cluster.act('DELETE', put.name), 204);
    assert.is((await cluster.get(put.name)).status, 404);
    assert.ok((await cluster.get(again.name)).body.equals(body));
    assert.is(await cluster.act('POST', `${put.name}/undelete`), 204);
    assert.is((await cluster.get(put.name)).status, 200);
    assert.is(await cluster.act('POST', `${again.name}/hide`), 204);
    await new Promise((resolve) => setTimeout(resolve, 1100));
    assert.is((await cluster.get(again.name)).status, 404);
    assert.is((await cluster.get(put.name)).status, 200);

    // All of it survives a restart.
    const gone = await cluster.put(await photo(2));
    assert.is(await cluster.act('DELETE', gone.name), 204);
    await cluster.stopAll();
    await cluster.startAll();
    await cluster.writable();
    await settled(cluster, put.name, 200);
    await settled(cluster, again.name, 404);
    await settled(cluster, gone.name, 404);
    assert.is(await cluster.act('POST', `${again.name}/reveal`), 204);
    await settled(cluster, again.name, 200);
  });

  test('replicas are identical, one block file alone gives the pictures back', async (t) => {
    const cluster = await ProcessCluster.start();
    t.defer(() => cluster.destroy());
    const pictures = await Promise.all(Array.from({ length: 20 }, (_, i) => photo(i)));
    const names: string[] = [];
    for (const body of pictures) names.push((await cluster.put(body)).name);
    await cluster.stopAll();
    let compared = 0;
    for (const [block, path] of blockFiles(cluster, 1)) {
      const copies = [2, 3].map((server) => blockFiles(cluster, server).get(block));
      for (const copy of copies) {
        assert.ok(copy !== undefined && existsSync(copy), `${block} is on every mount`);
        const [a, b] = [readFileSync(path), readFileSync(copy!)];
        // One may be a preallocated file and the other one that grew: behind the records there are zeros only.
        const both = Math.min(a.length, b.length);
        assert.ok(a.subarray(0, both).equals(b.subarray(0, both)), `${block} is the same on every mount`);
        assert.ok([...a.subarray(both), ...b.subarray(both)].every((byte) => byte === 0));
        compared++;
      }
    }
    assert.ok(compared >= 2);
    const out = await mkdtemp(join(tmpdir(), 'tfs-salvage-'));
    t.defer(() => rmSync(out, { recursive: true, force: true }));
    const elsewhere = await mkdtemp(join(tmpdir(), 'tfs-alone-'));
    t.defer(() => rmSync(elsewhere, { recursive: true, force: true }));
    for (const [block, path] of blockFiles(cluster, 2)) {
      const { copyFileSync } = await import('node:fs');
      copyFileSync(path, join(elsewhere, block));
      await tfs(cluster, 'salvage', join(elsewhere, block), '-o', out);
    }
    const saved = new Set(
      readdirSync(out)
        .filter((f) => statSync(join(out, f)).isFile())
        .map((f) => sha1(readFileSync(join(out, f)))),
    );
    for (const body of pictures) assert.ok(saved.has(sha1(body)), 'every picture was salvaged');
    for (const server of [1, 2, 3]) await tfs(cluster, 'fsck', cluster.mountPath(server));
  });

  test('without any index and any NameServer state everything is served and nothing deleted comes back', async (t) => {
    const cluster = await ProcessCluster.start();
    t.defer(() => cluster.destroy());
    const live: { name: string; body: Buffer }[] = [];
    for (let i = 0; i < 30; i++) {
      const body = tinyPng(randomBytes(16), 200_000);
      live.push({ name: (await cluster.put(body)).name, body });
    }
    const first = live[0]!;
    // A duplicate may be stored afresh, as where its server was slow a moment ago and another one is asked: not every time.
    let alias = await cluster.put(first.body);
    for (let i = 0; i < 20 && alias.json['deduplicated'] !== true; i++) alias = await cluster.put(first.body);
    assert.is(alias.json['deduplicated'], true);
    const dead = live.splice(0, 5);
    for (const { name } of dead) assert.is(await cluster.act('DELETE', name), 204);
    await cluster.stopAll();
    for (const mount of cluster.config.mounts) {
      rmSync(join(mount.path, 'kv'), { recursive: true });
      for (const file of readdirSync(join(mount.path, 'blocks'), { recursive: true }) as string[]) {
        if (file.endsWith('.idx')) rmSync(join(mount.path, 'blocks', file));
      }
    }
    for (const ns of cluster.config.nameservers) rmSync(ns.dir, { recursive: true });
    await cluster.startAll();
    await cluster.writable();
    for (const { name, body } of live) assert.ok((await settled(cluster, name, 200)).equals(body));
    assert.ok((await settled(cluster, alias.name, 200)).equals(first.body));
    for (const { name } of dead) await settled(cluster, name, 404);
  });

  test('a flipped byte on one replica: still 200 with the right bytes', async (t) => {
    const cluster = await ProcessCluster.start();
    t.defer(() => cluster.destroy());
    const bodies = Array.from({ length: 12 }, () => tinyPng(randomBytes(16), 30_000));
    const names: string[] = [];
    for (const body of bodies) names.push((await cluster.put(body)).name);
    let flipped = 0;
    for (const file of blockFiles(cluster, 1).values()) {
      const bytes = readFileSync(file);
      for (const body of bodies) {
        const at = bytes.indexOf(body.subarray(0, 64));
        if (at < 0) continue;
        const fd = openSync(file, 'r+');
        const one = Buffer.alloc(1);
        readSync(fd, one, 0, 1, at + 20_000);
        one[0]! ^= 0x40;
        writeSync(fd, one, 0, 1, at + 20_000);
        closeSync(fd);
        flipped++;
      }
    }
    assert.is(flipped, bodies.length);
    for (let round = 0; round < 3; round++) {
      for (const [i, name] of names.entries()) {
        const got = await cluster.get(name);
        assert.is(got.status, 200);
        assert.ok(got.body.equals(bodies[i]!));
      }
    }
  });
}, 90_000);

/** Asks until the answer is not "don't know yet". @returns the body */
async function settled(cluster: ProcessCluster, name: string, status: number): Promise<Buffer> {
  let got = await cluster.get(name);
  for (let tries = 0; got.status === 503 && tries < 100; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    got = await cluster.get(name);
  }
  assert.is(got.status, status, `${name}: ${got.body.toString('utf8').slice(0, 300)}`);
  return got.body;
}
