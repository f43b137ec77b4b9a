import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { openMetrics } from '../../common/metrics.ts';
import { describe } from '../kit/suite.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const FOLDERS = ['nameserver', 'dataserver', 'client/gateway'];

interface Place {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: Place;
  readonly datasource?: { readonly uid: string };
  readonly targets?: readonly {
    readonly expr: string;
    readonly refId: string;
    readonly legendFormat: string;
  }[];
}

const dashboard = JSON.parse(readFileSync(join(ROOT, 'docs', 'grafana', 'tfs.json'), 'utf8')) as {
  readonly uid: string;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly type: string }[] };
};
const shown = dashboard.panels.filter(({ type }) => type !== 'row');

/** What the processes export: names, and those of the series of a histogram. */
async function exported(): Promise<Set<string>> {
  const names = new Set<string>();
  for (const folder of FOLDERS)
    for (const file of readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts')) continue;
      const source = readFileSync(join(ROOT, folder, file), 'utf8');
      for (const [, how, name] of source.matchAll(/(histogram)?\(\s*'(tfs_[a-z0-9_]+)'/g))
        if (how === undefined) names.add(name!);
        else for (const series of ['bucket', 'sum', 'count']) names.add(`${name!}_${series}`);
    }
  const metrics = openMetrics({ kind: 'test', id: '0' });
  for (const [, name] of (await metrics.text()).matchAll(/^([a-z][a-z0-9_]*)\{/gm)) names.add(name!);
  metrics.close();
  return names;
}

describe('docs/grafana/tfs.json', (test) => {
  test('names only metrics that a process exports', async () => {
    const names = await exported();
    assert.ok(names.has('tfs_gateway_store_seconds_bucket') && names.has('process_cpu_seconds_total'));
    let count = 0;
    for (const { title, targets = [] } of shown)
      for (const { expr } of targets)
        for (const [name] of expr.matchAll(/\b(?:tfs|process|nodejs)_[a-z0-9_]+/g)) {
          assert.ok(names.has(name), `${name} of "${title}" is exported`);
          count++;
        }
    assert.ok(count > 60, `${count}`);
  });

  test('shows something of every process and of everything that pages', () => {
    const all = shown.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)).join('\n');
    const operations = readFileSync(join(ROOT, 'docs', 'operations.md'), 'utf8');
    const pages = operations.slice(operations.indexOf('| page | rule'), operations.indexOf('## Symptoms'));
    const paging = new Set([...pages.matchAll(/tfs_[a-z_]+/g)].map(([name]) => name));
    assert.ok(paging.size > 8);
    // Of each server alone; the dashboard has their number.
    paging.delete('tfs_nameserver_server_writable');
    for (const name of paging) assert.ok(all.includes(name), `${name} pages and is shown`);
  });

  test('can be imported: a choice of data source, panels with an id each, side by side, legends and balanced brackets', () => {
    assert.equal(
      dashboard.templating.list.map(({ name, type }) => [name, type]),
      [['datasource', 'datasource']],
    );
    assert.is(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length);
    for (const { title, targets = [], datasource } of shown) {
      assert.ok(title !== '' && targets.length > 0, title);
      assert.is(datasource?.uid, '$' + '{datasource}');
      assert.is(new Set(targets.map(({ refId }) => refId)).size, targets.length, title);
      for (const { expr } of targets) {
        for (const [open, close] of ['()', '[]', '{}'] as const)
          assert.is(expr.split(open!).length, expr.split(close!).length, expr);
      }
    }
    const places = dashboard.panels.map(({ gridPos }) => gridPos);
    for (const [i, a] of places.entries()) {
      assert.ok(a.x >= 0 && a.x + a.w <= 24);
      for (const b of places.slice(0, i))
        assert.not(
          a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h,
          `panels overlap at ${JSON.stringify(a)}`,
        );
    }
  });
});
