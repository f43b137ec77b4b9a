import { Agent, request } from 'undici';
import * as assert from 'uvu/assert';
import { missingPackages, VARNISH_PACKAGES } from '../../kit/debian-package.ts';
import { Front } from '../../kit/front.ts';
import { freePorts } from '../../kit/ports.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { AGES, checkAccept, checkAges, checkLoad } from './renditions.ts';
import { cacheStatus, figure, headerOf, noise, purged, Scene } from './scene.ts';

const missing = missingPackages(VARNISH_PACKAGES);

describe('Varnish in front', (test) => {
  if (missing !== undefined) return test.skip(`Varnish ${missing}`);

  test('everybody gets what the gateways give, once made; what is deleted goes, and does not come back', async (t) => {
    const port = await freePorts(1);
    const scene = await Scene.start(t, { purge: purged([port]) });
    const front = await Front.varnish(t, { origins: scene.origins, port });
    await checkPurges(t, scene, front);
    await checkAccept(scene, front);
    await checkLoad(scene, front, 'Varnish');
    const name = await scene.store(await noise(1200, 900));
    figure('Varnish', await scene.deletedWhileRead(name, [front]));
  });

  test('old renditions are asked for with their tag, and shown while nobody answers', async (t) => {
    const scene = await Scene.start(t, { images: AGES });
    const front = await Front.varnish(t, { origins: scene.origins });
    await checkAges(scene, front);
  });
}, 120_000);

/** Ranges, and a purge for all that is kept of a picture, from the gateways alone. */
async function checkPurges(t: TestContext, scene: Scene, front: Front): Promise<void> {
  const body = await noise(800, 600);
  const name = await scene.store(body);
  const other = await scene.store(await noise(100, 80));
  const range = await front.get(`${name}.jpg`, { range: 'bytes=1000-1999' });
  assert.is(range.status, 206);
  assert.is(headerOf(range, 'content-range'), `bytes 1000-1999/${body.length}`);
  assert.ok(range.body.equals(body.subarray(1000, 2000)));
  const see = async (path: string) => cacheStatus(await front.get(path));
  assert.is(await see(`${name}.jpg`), 'HIT');
  assert.is(await see(name), 'MISS');
  assert.is(await see(other), 'MISS');
  const whole = await front.get(`${name}.jpg`);
  assert.ok(whole.body.equals(body));
  assert.is((await front.get(name, { 'if-none-match': headerOf(whole, 'etag') })).status, 304);

  const stranger = new Agent({ localAddress: '127.0.0.2' });
  t.defer(() => stranger.destroy());
  const refused = await request(`${front.url}/images/${name}`, {
    method: 'PURGE' as 'GET',
    dispatcher: stranger,
  });
  assert.is(refused.statusCode, 403);
  await refused.body.dump();
  for (const bad of ['x', 'T1', `${name}.jpg`, `${name}?w=1`]) assert.is(await front.purge(bad), 400, bad);
  assert.is(await see(name), 'HIT');
  assert.is(await front.purge(name), 200);
  assert.is(await see(name), 'MISS');
  assert.is(await see(`${name}.jpg`), 'MISS');
  assert.is(await see(other), 'HIT');
  assert.is(await front.purge('*'), 200);
  assert.is(await see(other), 'MISS');
  assert.is((await request(`${front.url}/images/${name}`, { method: 'DELETE' })).statusCode, 405);
}
