import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { type Config, defaultConfig, parseConfig } from '../../common/config.ts';
import { isTfsError } from '../../common/errors.ts';
import { ensureToken, readToken, secretsDir } from '../../common/secrets.ts';
import { readTokens, tokensPath } from '../../common/tokens-file.ts';
import { describe, type TestContext } from '../kit/suite.ts';
import { tempDir } from '../kit/temp-dir.ts';

const SECRET = 'the-secret-of-this-test';
const POLICIES = {
  shop: { types: ['jpeg', 'png'], maxBytes: 1000, quotaBytes: 5000, requestsPerSecond: 1.5, orient: true },
  app: { actions: ['upload'], quotaBytes: 7, quotaPeriod: 'month', requestsPerSecond: 3, burst: 9 },
} as const;

const uploadsOf = (policies: unknown) =>
  parseConfig({ ...defaultConfig({ uuid: 'ab'.repeat(16) }), uploads: { policies } }, '/nowhere');

async function homeWith(t: TestContext, tokens?: unknown): Promise<Config> {
  const home = tempDir(t);
  await ensureToken(home);
  if (tokens !== undefined)
    writeFileSync(tokensPath(home), typeof tokens === 'string' ? tokens : JSON.stringify(tokens), {
      mode: 0o600,
    });
  return { ...uploadsOf(POLICIES), home };
}

async function configError(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (isTfsError(error, 'CONFIG')) return error.message;
    throw error;
  }
  return 'no error';
}

describe('secrets/tokens.json', (test) => {
  test('need not be there: then the one token may do everything', async (t) => {
    const config = await homeWith(t);
    const [only, ...others] = await readTokens(config);
    assert.is(others.length, 0);
    assert.equal(only, await readToken(config.home));
    assert.is(only!.policy.name, 'unlimited');
    assert.is(only!.policy.types, undefined);
  });

  test('gives each token its policy, with what the policy leaves out', async (t) => {
    const config = await homeWith(t, [
      { name: 'a', token: SECRET, policy: 'shop' },
      { name: 'b', appkey: 'tfscom', policy: 'app' },
      { name: 'c', appkey: 'other', policy: 'unlimited' },
    ]);
    const [, a, b, c] = await readTokens(config);
    assert.equal([a!.name, a!.kind, a!.text], ['a', 'bearer', SECRET]);
    assert.equal([...a!.policy.types!], ['jpeg', 'png']);
    assert.equal(a!.policy.quota, { bytes: 5000, period: 'day' });
    assert.equal(a!.policy.rate, { perSecond: 1.5, burst: 3 });
    assert.equal([...a!.policy.actions], ['upload', 'delete', 'hide']);
    assert.equal([a!.policy.orient, a!.policy.stripLocation], [true, false]);
    assert.equal([b!.name, b!.kind, b!.policy.quota], ['b', 'appkey', { bytes: 7, period: 'month' }]);
    assert.equal(b!.policy.rate, { perSecond: 3, burst: 9 });
    assert.equal([...b!.policy.actions], ['upload']);
    assert.is(c!.policy.name, 'unlimited');
  });

  test('a policy that is not in config.json is told, with those there are', async (t) => {
    const config = await homeWith(t, [{ name: 'a', token: SECRET, policy: 'shopp' }]);
    const message = await configError(() => readTokens(config));
    assert.match(message, 'the token "a" in secrets/tokens.json has the policy "shopp"');
    assert.match(message, '"unlimited", "shop", "app"');
  });

  test('one that others can read is refused', async (t) => {
    const config = await homeWith(t, []);
    chmodSync(tokensPath(config.home), 0o640);
    assert.match(await configError(() => readTokens(config)), `chmod 600 ${tokensPath(config.home)}`);
  });

  test('what is wrong with it is told without telling a secret', async (t) => {
    const entry = { name: 'a', token: SECRET, policy: 'shop' };
    const wrong: readonly (readonly [unknown, string])[] = [
      [`[{"name": "a", "token": "${SECRET}"`, 'is not JSON'],
      [{ tokens: [] }, 'the file:'],
      [[{ ...entry, polcy: 'shop' }], 'entry 0: Unrecognized key: "polcy"'],
      [[{ ...entry, appkey: 'x' }], 'entry 0: either "token" or "appkey"'],
      [[{ name: 'a', policy: 'shop' }], 'entry 0: either "token" or "appkey"'],
      [[entry, { ...entry, name: 'b' }], 'entry 1: has the secret of entry 0'],
      [
        [entry, { ...entry, name: 'b', token: undefined, appkey: SECRET }],
        'entry 1: has the secret of entry 0',
      ],
      [[entry, { ...entry, token: `${SECRET}2` }], 'entry 1: has the name of entry 0'],
      [[{ ...entry, name: 'token' }], 'entry 0, name: "token" is the one of secrets/token'],
      [[{ ...entry, name: '../x' }], 'entry 0, name:'],
      [[{ ...entry, token: 'the-secret' }], 'entry 0, token: a token is 16 to 512'],
      [[{ ...entry, token: undefined, appkey: 'the-secret/x' }], 'entry 0, appkey:'],
      [[{ ...entry, token: undefined, appkey: '..' }], 'entry 0, appkey:'],
    ];
    for (const [tokens, expected] of wrong) {
      const config = await homeWith(t, tokens);
      const message = await configError(() => readTokens(config));
      assert.ok(message.includes(expected), `${message} has: ${expected}`);
      assert.is(message.includes('the-secret'), false, message);
    }
    const config = await homeWith(t);
    const { text } = await readToken(config.home);
    writeFileSync(tokensPath(config.home), JSON.stringify([{ ...entry, token: text }]), { mode: 0o600 });
    assert.match(await configError(() => readTokens(config)), 'has the secret of secrets/token');
  });

  test('a home without secrets says so', async (t) => {
    const home = tempDir(t);
    mkdirSync(secretsDir(home), { mode: 0o700 });
    assert.match(await configError(() => readTokens({ ...uploadsOf({}), home })), 'npm start');
  });
});

describe('section uploads of config.json', (test) => {
  const wrong: readonly (readonly [string, object, string])[] = [
    ['a kind nobody knows', { p: { types: ['jpg'] } }, 'uploads.policies.p.types[0]'],
    ['no kind at all', { p: { types: [] } }, 'uploads.policies.p.types'],
    ['a size of nothing', { p: { maxBytes: 0 } }, 'uploads.policies.p.maxBytes'],
    ['a misspelt key', { p: { maxByte: 1 } }, 'unknown key "uploads.policies.p.maxByte"'],
    ['the built-in policy', { unlimited: {} }, 'is built in'],
    ['a name with a slash', { 'a/b': {} }, 'the name of a policy is'],
    ['a burst of nothing', { p: { burst: 5 } }, 'uploads.policies.p.burst: needs "requestsPerSecond"'],
    [
      'a period of nothing',
      { p: { quotaPeriod: 'day' } },
      'uploads.policies.p.quotaPeriod: needs "quotaBytes"',
    ],
    [
      'a burst that is less than a second',
      { p: { requestsPerSecond: 5, burst: 4 } },
      'uploads.policies.p.burst: is less than',
    ],
    ['another period', { p: { quotaBytes: 1, quotaPeriod: 'week' } }, 'uploads.policies.p.quotaPeriod'],
    ['an action nobody knows', { p: { actions: ['purge'] } }, 'uploads.policies.p.actions[0]'],
    ['no requests at all', { p: { requestsPerSecond: 0 } }, 'uploads.policies.p.requestsPerSecond'],
  ];
  for (const [what, policies, expected] of wrong)
    test(`refuses ${what}`, async () => {
      const message = await configError(() => uploadsOf(policies));
      assert.ok(message.includes(expected), message);
    });
});
