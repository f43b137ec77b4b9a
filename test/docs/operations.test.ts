import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type ConfigInput, defaultConfig, parseConfig } from '../../common/config.ts';
import { UPLOAD_TYPES } from '../../common/config-uploads.ts';
import { describe } from '../kit/suite.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const operations = readFileSync(join(ROOT, 'docs', 'operations.md'), 'utf8');

/** Every string in the sources below a folder that matches. */
function strings(folder: string, pattern: RegExp): { readonly text: string; readonly file: string }[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .flatMap((file) => {
      const source = readFileSync(join(ROOT, folder, file), 'utf8');
      return [...source.matchAll(pattern)].map((match) => ({ text: match[1]!, file: `${folder}/${file}` }));
    });
}

const METRIC = /['"](tfs_[a-z0-9_]+)['"]/g;
const FOLDERS = { nameserver: 'nameserver', dataserver: 'dataserver', 'client/gateway': 'gateway' };
const metrics = Object.entries(FOLDERS).flatMap(([folder, kind]) =>
  strings(folder, METRIC).map((found) => ({ ...found, kind })),
);

describe('docs/operations.md', (test) => {
  test('explains every metric, and no other', () => {
    assert.ok(metrics.length > 60);
    for (const { text, file } of metrics)
      assert.ok(operations.includes(`\`${text}\``), `${text} of ${file} is explained`);
    const known = new Set(metrics.map(({ text }) => text));
    for (const [, name] of operations.matchAll(/(tfs_[a-z]+_[a-z_]+)/g))
      assert.ok(known.has(name!), `${name} exists`);
  });

  test('its example of upload policies is one that is taken, and explains every setting', () => {
    const example = /```json\n("uploads": [\s\S]*?)```/.exec(operations)![1]!;
    const { uploads } = JSON.parse(`{${example}}`) as Pick<ConfigInput, 'uploads'>;
    const config = parseConfig({ ...defaultConfig({ uuid: 'ab'.repeat(16) }), uploads }, '/nowhere');
    const policy = config.uploads.policies['phones']!;
    for (const key of Object.keys(policy)) assert.ok(operations.includes(`\`${key}\``), key);
    for (const type of UPLOAD_TYPES) assert.ok(operations.includes(`\`${type}\``), type);
  });

  test('metrics are named for the process that has them, and counters end with _total', () => {
    for (const { text, kind, file } of metrics) assert.match(text, `tfs_${kind}_`, file);
    for (const folder of Object.keys(FOLDERS)) {
      const counters = strings(folder, /\b(?:counted|counter|count)\(\s*'(tfs_[a-z_]+)'/g);
      for (const { text } of counters) assert.match(text, /_total$/);
      for (const { text } of strings(
        folder,
        /\b(?:observed|gauge|ofServers|observedBy)\(\s*'(tfs_[a-z_]+)'/g,
      ))
        assert.not.match(text, /_total$/);
    }
  });

  test('has a line for every finding of tfs doctor that wants somebody', () => {
    const source = strings('tools/doctor', /code: (?:\w+ \? )?'([a-z-]+)'/g).map(({ text }) => text);
    assert.ok(source.length > 25);
    const named = new Set(
      [...operations.matchAll(/`([a-z]+(?:-[a-z]+)+|suspect|quarantined)`/g)].map(([, code]) => code!),
    );
    const obvious = new Set([
      'not-running',
      'gateway-down',
      'no-gateway',
      'two-leaders',
      'single-nameserver',
      'server-missing',
      'server-unknown',
      'heartbeat-late',
      'slow-link',
      'fewer-copies',
      'disk-nearly-full',
      'mount-new',
      'mount-unreadable',
      'dedup-off',
      'checkpoint-failing',
    ]);
    for (const code of source)
      assert.ok(named.has(code) || obvious.has(code), `${code} is explained, or says all there is to say`);
  });
});
