import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';
import * as assert from 'uvu/assert';
import { missingPackages, NGINX_PACKAGES } from '../../kit/debian-package.ts';
import { ask, Front } from '../../kit/front.ts';
import { freePorts } from '../../kit/ports.ts';
import { ROOT } from '../../kit/run-from.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { AGES, checkAccept, checkAges, checkLoad, until } from './renditions.ts';
import { cacheStatus, figure, headerOf, noise, purged, Scene } from './scene.ts';

const missing = missingPackages(NGINX_PACKAGES);

describe('nginx in front', (test) => {
  if (missing !== undefined) return test.skip(`nginx ${missing}`);

  test('keeps large originals in pieces, and forgets all of a picture by one purge, for good', async (t) => {
    const scene = await Scene.start(t);
    await checkPieces(t, scene);
    await checkPurges(t, scene);
    await checkRoom(t, scene);
    await checkForgetting(t, scene);
    await checkDisk(t, scene);
  });

  test('everybody gets what the gateways give, once made; what is deleted goes, and does not come back', async (t) => {
    const port = await freePorts(1);
    const scene = await Scene.start(t, { purge: purged([port]) });
    const front = await Front.nginx(t, 'nginx.conf', { origins: scene.origins, port });
    await checkAccept(scene, front);
    await checkLoad(scene, front, 'nginx');
    const name = await scene.store(await noise(1200, 900));
    figure('nginx', await scene.deletedWhileRead(name, [front]));
  });

  test('old renditions are asked for with their tag, and shown while nobody answers', async (t) => {
    const scene = await Scene.start(t, { images: AGES });
    const front = await Front.nginx(t, 'nginx.conf', { origins: scene.origins });
    await checkAges(scene, front);
  });
}, 120_000);

/** Large originals are kept in pieces, and a range costs the pieces that it touches. */
async function checkPieces(t: TestContext, scene: Scene): Promise<void> {
  const front = await Front.nginx(t, 'nginx.conf', { origins: scene.origins });
  const body = await noise(2400, 1600);
  assert.ok(body.length > 3 << 20, String(body.length));
  const name = await scene.store(body);
  const range = { range: 'bytes=1048000-1049999' };
  const before = await scene.answered();
  const first = await front.get(`${name}.jpg`, range);
  assert.is(first.status, 206);
  assert.is(headerOf(first, 'content-range'), `bytes 1048000-1049999/${body.length}`);
  assert.ok(first.body.equals(body.subarray(1_048_000, 1_050_000)));
  const after = await scene.answered();
  assert.is((after.get(206) ?? 0) - (before.get(206) ?? 0), 2, 'two pieces were asked for');
  const whole = await front.get(`${name}.jpg`);
  assert.is(whole.status, 200);
  assert.ok(whole.body.equals(body));
  assert.is(headerOf(whole, 'etag'), headerOf(await scene.direct(name), 'etag'));
  const pieces = Math.ceil(body.length / (1 << 20));
  const later = await scene.answered();
  assert.is((later.get(206) ?? 0) - (after.get(206) ?? 0), pieces - 2, 'every piece once');
  const again = await front.get(`${name}.jpg`);
  assert.is(cacheStatus(again), 'HIT');
  assert.ok(again.body.equals(body));
  const head = await ask(`${front.url}/images/${name}.jpg`, 'HEAD', {});
  assert.is(`${head.status} ${headerOf(head, 'content-length')}`, `200 ${body.length}`);
  const end = await front.get(`${name}.jpg`, { range: 'bytes=-10' });
  assert.ok(end.body.equals(body.subarray(-10)));
  assert.is((await front.get(`${name}.jpg`, { range: `bytes=${body.length}-` })).status, 416);
  const etag = headerOf(whole, 'etag');
  assert.is((await front.get(`${name}.jpg`, { 'if-none-match': etag })).status, 304);
}

/** A purge is for all that is kept of a picture, for good, and from the gateways alone. */
async function checkPurges(t: TestContext, scene: Scene): Promise<void> {
  const front = await Front.nginx(t, 'nginx.conf', { origins: scene.origins });
  const names = await Promise.all([1, 2, 3].map(async () => scene.store(await noise(100, 80))));
  const [first, second, third] = names as [string, string, string];
  const see = async (name: string) => cacheStatus(await front.get(`${name}.jpg`));
  for (const name of names) assert.is(await see(name), 'MISS');
  for (const name of names) assert.is(await see(name), 'HIT');

  const stranger = new Agent({ localAddress: '127.0.0.2' });
  t.defer(() => stranger.destroy());
  const refused = await request(`${front.url}/images/${first}`, {
    method: 'PURGE' as 'GET',
    dispatcher: stranger,
  });
  assert.is(refused.statusCode, 403);
  await refused.body.dump();
  for (const bad of ['x', 'T1', `${first}.jpg`, 'a%2fb']) assert.is(await front.purge(bad), 400, bad);
  assert.is(await see(first), 'HIT');

  assert.is(await front.purge(first), 200);
  assert.is(await see(first), 'MISS');
  assert.is(await see(second), 'HIT');
  assert.is(await front.purge(second), 200);
  // What is kept survives a restart, and so does what was purged.
  await front.stop();
  await front.start();
  assert.is(await see(third), 'HIT');
  assert.is(await see(first), 'HIT');
  assert.is(await see(second), 'MISS');
  // A reload too.
  assert.is(await front.purge(third), 200);
  front.signal('SIGHUP');
  await sleep(500);
  assert.is(await see(second), 'HIT');
  assert.is(await see(third), 'MISS');
  // A line that was cut off by a crash takes no other along.
  assert.is(await front.purge(first), 200);
  await front.stop();
  writeFileSync(front.journalPath, `\n${second} 17`, { flag: 'a' });
  await front.start();
  assert.is(await see(first), 'MISS');
  assert.is(await see(second), 'HIT');
  assert.is(await front.purge(second), 200);
  await front.stop();
  await front.start();
  assert.is(await see(second), 'MISS');
  // Everything at once, and also whenever it is not known any more what was purged.
  assert.is(await front.purge('*'), 200);
  for (const name of names) assert.is(await see(name), 'MISS');
  await front.stop();
  writeFileSync(front.journalPath, 'damaged');
  await front.start();
  for (const name of names) assert.is(await see(name), 'MISS');
  await front.stop();
  await front.start();
  for (const name of names) assert.is(await see(name), 'HIT');
  assert.ok(statSync(front.journalPath).size < 200);
  assert.is(statSync(front.journalPath).mode & 0o777, 0o600, 'for nobody else');
}

/** More purges than it remembers: nothing that was kept is shown any more. */
async function checkRoom(t: TestContext, scene: Scene): Promise<void> {
  const front = await Front.nginx(t, 'nginx.conf', { origins: scene.origins, dictionary: '64k' });
  const names = await Promise.all([1, 2].map(async () => scene.store(await noise(100, 80))));
  for (const name of names) await front.get(name);
  assert.is(await front.purge(names[0]!), 200);
  let purges = 1;
  while (front.journal.trim().split(/\n+/).length >= purges) {
    const answers = Array.from({ length: 20 }, () => front.purge(`T1${String(purges++).padStart(16, 'x')}`));
    assert.ok((await Promise.all(answers)).every((status) => status === 200));
    assert.ok(purges < 3_000, 'the dictionary is full some time');
  }
  assert.ok(purges > 200, String(purges));
  for (const name of names) {
    assert.is(cacheStatus(await front.get(name)), 'MISS');
    assert.is(cacheStatus(await front.get(name)), 'HIT');
    assert.is(await front.purge(name), 200);
    assert.is(cacheStatus(await front.get(name)), 'MISS');
  }
  // The same when there turn out to be too many at a start.
  const other = await scene.store(await noise(100, 80));
  for (const status of ['MISS', 'HIT']) assert.is(cacheStatus(await front.get(other)), status);
  await front.stop();
  const all = /^\* .*$/m.exec(front.journal)![0];
  const many = Array.from({ length: 2_000 }, (_, i) => `T1${String(i).padStart(16, 'y')} 1;`);
  writeFileSync(front.journalPath, [all, ...many, all, ''].join('\n'));
  await front.start();
  assert.is(cacheStatus(await front.get(other)), 'MISS');
}

/** What has been remembered for long enough leaves memory and journal, and nothing else does. */
async function checkForgetting(t: TestContext, scene: Scene): Promise<void> {
  const forgets = { afterS: 3, everyS: 1 };
  const front = await Front.nginx(t, 'nginx.conf', { origins: scene.origins, forgets });
  const [first, second] = ['T1first..__first__', 'T1second._second__'];
  assert.is(await front.purge(first!), 200);
  const names = () => front.journal.split('\n').flatMap((line) => /^(\S+) \d+;$/.exec(line)?.[1] ?? []);
  assert.ok(names().includes(first!));
  await until(() => Promise.resolve(!names().includes(first!)), 'the first is forgotten');
  assert.equal(names(), ['*']);
  // On a machine that is too busy to look in time there is nothing to be seen.
  const isEarly = (sinceMs: number) => performance.now() - sinceMs < forgets.afterS * 1000;
  const purgedAt = performance.now();
  assert.is(await front.purge(second!), 200);
  await sleep(1_500);
  const seen = names();
  if (isEarly(purgedAt))
    assert.equal(seen, ['*', second], 'the second is not, though the journal was looked through');
  // Counted anew from a start: what lies in the cache is, too.
  await front.stop();
  const left = names();
  const startedAt = performance.now();
  await front.start();
  await sleep(1_800);
  const later = names();
  if (left.includes(second!) && isEarly(startedAt)) assert.equal(later, ['*', second]);
  await until(() => Promise.resolve(!names().includes(second!)), 'the second is forgotten');
}

/** What a purge hides is still on the disk, until one looks for it by its key. */
async function checkDisk(t: TestContext, scene: Scene): Promise<void> {
  const front = await Front.nginx(t, 'nginx.conf', { origins: scene.origins });
  const [name, other] = [await scene.store(await noise(100, 80)), await scene.store(await noise(100, 80))];
  for (const path of [name, `${name}.jpg?w=160`, `${name}.jpg`, other])
    assert.is((await front.get(path)).status, 200);
  assert.is(await front.purge(name), 200);
  assert.is(kept(front, name), 3);
  const shown =
    /^grep .*\/images\/NAME.*$/m.exec(readFileSync(join(ROOT, 'docs', 'cdn.md'), 'utf8'))?.[0] ?? '';
  const command = shown.replace('NAME', name).replace('/var/cache/nginx/tfs', front.cacheDirectory);
  assert.ok(command.includes(front.cacheDirectory), shown);
  execFileSync('sh', ['-c', command]);
  assert.is(kept(front, name), 0);
  assert.is(kept(front, other), 1);
  assert.is(cacheStatus(await front.get(other)), 'HIT');
  assert.is((await front.get(name)).status, 200);
}

/** Files of the cache with something of a picture. */
const kept = ({ cacheDirectory }: Front, name: string): number =>
  readdirSync(cacheDirectory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name)))
    .filter((bytes) => bytes.includes(`/images/${name}`)).length;
