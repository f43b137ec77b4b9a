import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { request } from 'undici';
import * as assert from 'uvu/assert';
import type { ServerFigures } from '../../common/wire/control.ts';
import type { BlockSpaceReply } from '../../common/wire/space.ts';
import { ProcessCluster, tinyPng } from '../kit/process-cluster.ts';
import { ensureBuilt, runTfs } from '../kit/run-tfs.ts';
import { describe } from '../kit/suite.ts';

const PICTURES = 40;
const PICTURE_BYTES = 30_000;

/** Names of all metrics that the processes tell of, also of those that have no value yet. */
async function metricsOf(cluster: ProcessCluster): Promise<Set<string>> {
  const { mounts, nameservers, gateway } = cluster.config;
  const places = [mounts[0]!, nameservers[0]!, { host: '127.0.0.1', adminPort: gateway.adminPort }];
  const names = new Set<string>();
  for (const { host, adminPort } of places) {
    const text = await (await request(`http://${host}:${adminPort}/metrics`)).body.text();
    for (const [, name, type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm))
      if (type !== 'histogram') names.add(name!);
      else for (const series of ['bucket', 'sum', 'count']) names.add(`${name!}_${series}`);
  }
  return names;
}

describe('the figures of a running cluster', (test) => {
  test('tfs scrub, tfs status --space, and what the dashboard shows', async (t) => {
    await ensureBuilt();
    const cluster = await ProcessCluster.start({
      config: { dataserver: { blockBytes: 4 << 20, spareBlocks: 0 } },
    });
    t.defer(() => cluster.destroy());
    const tfs = (...args: string[]) => runTfs(args, { env: { TFS_HOME: cluster.home } });
    const names: string[] = [];
    for (let i = 0; i < PICTURES; i++)
      names.push((await cluster.put(tinyPng(randomBytes(16), PICTURE_BYTES))).name);
    for (const name of names.slice(0, 10)) assert.is(await cluster.act('DELETE', name), 204);
    // Whoever stops has everything sealed.
    await cluster.stopOne('ds2', 'SIGTERM');
    writeFileSync(join(cluster.mountPath(2), 'blocks', 'core'), 'of nobody');
    await cluster.startOne('ds2');

    const scrubbed = await tfs('scrub', '2', '--full-speed', '--wait', '--json');
    assert.is(scrubbed.code, 0, scrubbed.stderr);
    const totals = scrubbed.json[0]!;
    assert.ok(Number(totals['replicas']) > 0 && Number(totals['bytes']) > PICTURES * PICTURE_BYTES);
    assert.equal([totals['ok'], totals['damaged'], totals['left']], [true, 0, 0]);
    const text = await tfs('scrub', '2');
    assert.match(text.stdout.toString(), /^server 2: .* of a pass begun 0 s ago/);
    assert.is((await tfs('scrub', '9')).code, 3);
    assert.is((await tfs('scrub', 'all')).code, 2);

    const [space] = (await tfs('status', '--space', '--blocks', '3', '--json')).json as unknown as [
      {
        readonly space: ServerFigures;
        readonly blocks: readonly (BlockSpaceReply & { readonly server: number })[];
      },
    ];
    assert.equal(
      space.blocks.map(({ server }) => server),
      [1, 2, 3],
    );
    for (const { rows } of space.blocks) {
      assert.ok(rows.length <= 3);
      const deleted = rows.reduce((sum, { parts }) => sum + parts.inWindow, 0);
      assert.ok(deleted >= 10 * PICTURE_BYTES && deleted < 11 * PICTURE_BYTES, `${deleted}`);
    }
    let two = space.space.find(({ id }) => id === 2)!;
    for (let tries = 0; two.use === undefined && tries < 50; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      const [again] = (await tfs('status', '--space', '--json')).json as unknown as [
        { space: ServerFigures },
      ];
      two = again.space.find(({ id }) => id === 2)!;
    }
    assert.is(two.use!.orphans.files, 1);
    assert.is(two.use!.parts.unknown, 'of nobody'.length);
    assert.match((await tfs('status', '--space')).stdout.toString(), /^DATASERVER +LIVE/);

    const exported = await metricsOf(cluster);
    const dashboard = readFileSync(
      join(import.meta.dirname, '..', '..', 'docs', 'grafana', 'tfs.json'),
      'utf8',
    );
    const shown = new Set(dashboard.match(/\b(?:tfs|process|nodejs)_[a-z0-9_]+/g));
    assert.ok(shown.size > 50);
    assert.equal(
      [...shown].filter((name) => !exported.has(name)),
      [],
    );

    // What a scrub keeps in LevelDB is no damage to the index that is there too.
    await cluster.stopOne('ds2', 'SIGTERM');
    rmSync(join(cluster.mountPath(2), 'blocks', 'core'));
    const checked = await tfs('fsck', cluster.mountPath(2));
    assert.is(checked.code, 0, checked.stdout.toString() + checked.stderr);
  });
}, 90_000);
