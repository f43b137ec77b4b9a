import { readdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import * as assert from 'uvu/assert';
import * as limits from '../../common/limits.ts';
import { type Tunables, tunable, tune, untune } from '../../common/tunables.ts';
import { describe } from '../kit/suite.ts';

const ROOT = path.join(import.meta.dirname, '../..');

/** Where a format or the wire fixes the bound, or no simulated process comes. */
const MAY_USE_THE_LIMIT = [
  'common/limits.ts',
  'common/tunables.ts',
  'common/format/alias-table.ts',
  'common/format/ops-snapshot.ts',
  'common/wire/job-questions.ts',
  'nameserver/block-page.ts',
  'nameserver/series.ts',
  'client/gateway/',
];

const productFiles = ['common', 'nameserver', 'dataserver', 'client'].flatMap((folder) =>
  readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => path.join(folder, file)),
);
const sourceOf = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');

const limitOf = (): ReadonlyMap<string, string> =>
  new Map(
    [...sourceOf('common/tunables.ts').matchAll(/^ {2}(\w+): limits\.(\w+),$/gm)].map((found) => [
      found[1]!,
      found[2]!,
    ]),
  );

const isRefused = (values: Record<string, number>): boolean => {
  const before = { ...tunable };
  try {
    tune(values as Partial<Tunables>);
  } catch (error) {
    assert.equal({ ...tunable }, before, 'nothing has changed');
    return error instanceof Error && error.message.startsWith('assertion failed');
  }
  return false;
};

describe('tunable limits', (test) => {
  test('hold what limits.ts says until a test changes them, and again afterwards', (t) => {
    t.defer(untune);
    const values = new Map<string, number>(Object.entries(limits));
    const production = Object.fromEntries([...limitOf()].map(([name, limit]) => [name, values.get(limit)!]));
    assert.equal({ ...tunable }, production);
    tune({ opsLogBytesMax: 4096, jobParkedMs: 5_000 });
    tune({ jobParkedMs: 6_000 });
    assert.equal({ ...tunable }, { ...production, opsLogBytesMax: 4096, jobParkedMs: 6_000 });
    untune();
    assert.equal({ ...tunable }, production);
  });

  test('refuse what they do not know, what is no bound, and what does not go together', (t) => {
    t.defer(untune);
    assert.ok(isRefused({ opsLogBytes: 4096 }), 'an unknown name');
    assert.ok(isRefused({ toString: 1 }), 'a name of every object');
    for (const value of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])
      assert.ok(isRefused({ opsLogBytesMax: value }), `${value}`);
    assert.ok(isRefused({ recentOpsMax: 8, jobMsMin: 1_000 }), 'a job shorter than its compaction');
    assert.ok(isRefused({ pairHoldMsMin: tunable.pairHoldMsMax + 1 }));
    assert.ok(isRefused({ countersPerSeries: limits.COUNTERS_PER_SERIES + 1 }));
    tune({ prepareGenerationMsMax: 10_000, preparedMsMax: 15_000, compactMsMax: 20_000, jobMsMin: 20_000 });
    assert.is(tunable.jobMsMin, 20_000);
  });

  test('are what the servers read: none of them uses the limit itself beside it', () => {
    const used = new Set<string>();
    const beside: string[] = [];
    for (const file of productFiles) {
      const source = sourceOf(file);
      for (const [name, limit] of limitOf()) {
        if (source.includes(`tunable.${name}`)) used.add(name);
        if (MAY_USE_THE_LIMIT.some((place) => file.startsWith(place))) continue;
        if (new RegExp(`\\b${limit}\\b`).test(source)) beside.push(`${file}: ${limit}`);
      }
    }
    assert.equal(beside, []);
    assert.equal(
      [...limitOf().keys()].filter((name) => !used.has(name)),
      [],
      'each is read somewhere',
    );
  });

  test('are changed by no product code', () => {
    const changing = productFiles.filter(
      (file) => file !== 'common/tunables.ts' && /\bun?tune\(/.test(sourceOf(file)),
    );
    assert.equal(changing, []);
  });
});
