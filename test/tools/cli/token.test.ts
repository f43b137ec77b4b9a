import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type ConfigInput, configPath, defaultConfig, loadConfig } from '../../../common/config.ts';
import { ensureToken, readToken } from '../../../common/secrets.ts';
import { readTokens, tokensPath } from '../../../common/tokens-file.ts';
import { runTfs } from '../../kit/run-tfs.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

async function newHome(t: TestContext): Promise<string> {
  const home = join(tempDir(t), 'home');
  mkdirSync(home, { mode: 0o700 });
  const config: ConfigInput = {
    ...defaultConfig({ uuid: 'cd'.repeat(16) }),
    uploads: { policies: { shop: { types: ['jpeg'] } } },
  };
  writeFileSync(configPath(home), JSON.stringify(config));
  await ensureToken(home);
  return home;
}

describe('tfs token', (test) => {
  test('makes tokens that gateways know, shows them once, and takes them back', async (t) => {
    const home = await newHome(t);
    const run = (...args: string[]) => runTfs(['--home', home, ...args]);
    const made = await run('token', 'add', 'phone', '--policy', 'shop');
    assert.is(made.code, 0, made.stderr);
    assert.match(made.stderr, 'npm run reload');
    const secret = made.stdout.toString().trim();
    assert.match(secret, /^[\w-]{32}$/);
    assert.is(statSync(tokensPath(home)).mode & 0o777, 0o600);
    const appkey = await run('--json', 'token', 'add', 'old', '--policy', 'unlimited', '--appkey');
    const given = await run('token', 'add', 'older', '--policy', 'shop', '--appkey', 'tfscom');
    assert.is(appkey.code, 0, appkey.stderr);
    assert.is(given.code, 0, given.stderr);
    assert.match(given.stderr, 'can be guessed');
    assert.is(given.stdout.toString(), 'tfscom\n');

    const known = await readTokens(await loadConfig(home));
    assert.equal(
      known.map(({ name, kind, policy, text }) => [name, kind, policy.name, text]),
      [
        ['token', 'bearer', 'unlimited', (await readToken(home)).text],
        ['phone', 'bearer', 'shop', secret],
        ['old', 'appkey', 'unlimited', String(appkey.json[0]!['secret'])],
        ['older', 'appkey', 'shop', 'tfscom'],
      ],
    );

    const list = await run('token', 'list');
    const text = list.stdout.toString();
    for (const word of ['phone', 'bearer', 'shop', known[1]!.id]) assert.match(text, word);
    for (const { text: one } of known) assert.is(text.includes(one), false, 'no secret is listed');
    const asJson = await run('--json', 'token', 'list');
    assert.equal(asJson.json[1], { name: 'phone', kind: 'bearer', policy: 'shop', id: known[1]!.id });
    assert.is(asJson.json.length, 4);

    assert.is((await run('token', 'remove', 'phone')).code, 0);
    assert.equal(
      (await readTokens(await loadConfig(home))).map(({ name }) => name),
      ['token', 'old', 'older'],
    );
    assert.is((await run('token', 'remove', 'phone')).code, 3);
  });

  test('what is wrong changes nothing', async (t) => {
    const home = await newHome(t);
    const run = (...args: string[]) => runTfs(['--home', home, 'token', ...args]);
    await run('add', 'phone', '--policy', 'shop', '--appkey', 'tfscom');
    const before = readFileSync(tokensPath(home), 'utf8');
    const wrong: readonly (readonly [readonly string[], number, string])[] = [
      [['add', 'x'], 2, '--policy'],
      [['add', 'x', '--policy', 'shopp'], 2, 'there are "unlimited", "shop"'],
      [['add', 'phone', '--policy', 'shop'], 1, 'there is a token "phone"'],
      [['add', 'x', '--policy', 'shop', '--appkey', 'tfscom'], 2, 'has the secret of entry 0'],
      [['add', 'x', '--policy', 'shop', '--appkey', 'a/b'], 2, 'an appkey is'],
      [['add', 'x/y', '--policy', 'shop'], 2, 'a name is'],
      [['add', 'token', '--policy', 'shop'], 2, 'is the one of secrets/token'],
      [['remove', 'nobody'], 3, 'there is no token "nobody"'],
    ];
    for (const [args, code, message] of wrong) {
      const end = await run(...args);
      assert.is(end.code, code, `${args.join(' ')}: ${end.stderr}`);
      assert.ok(end.stderr.includes(message), end.stderr);
      assert.is(readFileSync(tokensPath(home), 'utf8'), before);
    }
  });
}, 60_000);
