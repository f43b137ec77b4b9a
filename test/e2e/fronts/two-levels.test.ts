import * as assert from 'uvu/assert';
import { missingPackages, NGINX_PACKAGES, VARNISH_PACKAGES } from '../../kit/debian-package.ts';
import { Front } from '../../kit/front.ts';
import { freePorts } from '../../kit/ports.ts';
import type { TestContext } from '../../kit/suite.ts';
import { describe } from '../../kit/suite.ts';
import { checkAccept } from './renditions.ts';
import { cacheStatus, figure, headerOf, noise, purged, Scene } from './scene.ts';

const missing = missingPackages([...NGINX_PACKAGES, ...VARNISH_PACKAGES]);

/** An edge in front of two centres, one of each kind. */
async function levels(
  t: TestContext,
  scene: Scene,
  port?: number,
): Promise<{ edge: Front; centres: [Front, Front] }> {
  const origins = scene.origins;
  const base = port ?? (await freePorts(3));
  const centres: [Front, Front] = [
    await Front.nginx(t, 'nginx.conf', { origins, port: base }),
    await Front.varnish(t, { origins, port: base + 1 }),
  ];
  const edge = await Front.nginx(t, 'nginx-edge.conf', {
    origins: [centres[0].address, centres[1].address],
    port: base + 2,
  });
  return { edge, centres };
}

describe('two levels of caches', (test) => {
  if (missing !== undefined) return test.skip(missing);

  test('all of a picture is at one centre; and whoever purges begins there', async (t) => {
    const scene = await Scene.start(t);
    await checkOrder(t, scene);
    await checkPlaces(t, scene);
  });

  test('everybody gets what the gateways give; what is deleted goes from both levels, and does not come back', async (t) => {
    const port = await freePorts(3);
    const scene = await Scene.start(t, { purge: purged([port, port + 1], [port + 2]) });
    const { edge, centres } = await levels(t, scene, port);
    await checkAccept(scene, edge, 1);
    const name = await scene.store(await noise(1200, 900));
    figure('two levels', await scene.deletedWhileRead(name, [edge, ...centres]));
  });
}, 120_000);

/** A picture is at one centre; when that is gone, at the other. */
async function checkPlaces(t: TestContext, scene: Scene): Promise<void> {
  const { edge, centres } = await levels(t, scene);
  const bodies = await Promise.all(
    Array.from({ length: 16 }, (_, i) => (i < 6 ? noise(1300, 1100) : noise(120, 90))),
  );
  const names: string[] = [];
  for (const body of bodies) names.push(await scene.store(body));
  const at = (answer: Parameters<typeof headerOf>[0]): string =>
    headerOf(answer, 'x-cache').startsWith('Varnish') ? 'Varnish' : 'nginx';
  const places = new Map<string, string>();
  for (const name of names) places.set(name, at(await edge.get(name)));
  assert.equal(new Set(places.values()), new Set(['nginx', 'Varnish']), 'both have a share');
  for (const [i, name] of names.entries()) {
    const renamed = await edge.get(`${name}.jpg`);
    assert.is(at(renamed), places.get(name), 'all of a picture is at the same centre');
    assert.ok(renamed.body.equals(bodies[i]!));
    assert.is(cacheStatus(await edge.get(name)), 'HIT');
  }
  await centres[0].stop();
  await edge.purge('*');
  for (const [i, name] of names.entries()) {
    const got = await edge.get(name);
    assert.is(got.status, 200);
    assert.ok(got.body.equals(bodies[i]!));
    assert.is(at(got), 'Varnish');
  }
}

/** Purged centre first, nothing comes back; edge first, it does. */
async function checkOrder(t: TestContext, scene: Scene): Promise<void> {
  const { edge, centres } = await levels(t, scene);
  const caches = [...centres, edge];
  const names: string[] = [];
  for (let i = 0; i < 8; i++) names.push(await scene.store(await noise(120, 90)));
  for (const name of names) {
    assert.is((await edge.get(name)).status, 200);
    assert.is(await scene.cluster.act('DELETE', name), 204);
    // Until every gateway knows it.
    await untilGone(scene, name);
  }
  const wrong = names.slice(0, 4);
  for (const name of wrong) {
    assert.is(await edge.purge(name), 200);
    assert.is((await edge.get(name)).status, 200, 'the centre still had it');
    for (const centre of centres) assert.is(await centre.purge(name), 200);
    assert.is((await edge.get(name)).status, 200, 'and now the edge has it, for a year');
  }
  for (const name of names.slice(4)) {
    for (const cache of caches) assert.is(await cache.purge(name), 200);
    assert.is((await edge.get(name)).status, 404);
  }
}

async function untilGone(scene: Scene, name: string): Promise<void> {
  const untilMs = performance.now() + 10_000;
  for (const gateway of [0, 1])
    while ((await scene.direct(name, {}, gateway)).status !== 404)
      assert.ok(performance.now() < untilMs, 'a gateway still shows it');
}
