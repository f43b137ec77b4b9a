import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { CacheRules } from '../../client/gateway/cache-rules.ts';
import { zImages } from '../../common/config-images.ts';
import { zPurgeSection } from '../../common/config-purge.ts';
import { TfsError } from '../../common/errors.ts';
import { ROOT } from '../kit/run-from.ts';
import { describe } from '../kit/suite.ts';

const text = readFileSync(join(ROOT, 'docs', 'cdn.md'), 'utf8');

describe('docs/cdn.md', (test) => {
  test('says what gateways say to caches', () => {
    const rules = new CacheRules(zImages.parse({}));
    const ofError = (code: 'NOT_FOUND' | 'UNDECODABLE') => rules.ofError(new TfsError(code, ''));
    for (const said of [rules.original, rules.rendition, ofError('NOT_FOUND'), ofError('UNDECODABLE')])
      assert.ok(text.includes(`\`${said}\``), said);
  });

  test('shows every example, and a section of the configuration that is one', () => {
    for (const file of readdirSync(join(ROOT, 'docs', 'front-ends')))
      assert.ok(text.includes(`(front-ends/${file})`), file);
    const json = /```json\n"purge": (\{[^`]*\})\n```/.exec(text)?.[1];
    const { caches } = zPurgeSection.parse(JSON.parse(json ?? ''));
    assert.equal(
      caches.map(({ tier }) => tier),
      [1, 2],
    );
  });
});
