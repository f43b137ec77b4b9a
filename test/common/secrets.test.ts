import { chmodSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { isTfsError } from '../../common/errors.ts';
import {
  ensureClusterKey,
  ensureGatewayRole,
  ensureToken,
  readClusterKey,
  readGatewayRole,
  readToken,
  tokenOf,
  tokenPath,
} from '../../common/secrets.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { describe } from '../kit/suite.ts';
import { tempDir } from '../kit/temp-dir.ts';

const mode = (path: string): number => statSync(path).mode & 0o777;

async function configError(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return isTfsError(error, 'CONFIG') ? error.message : `not CONFIG: ${error}`;
  }
  return 'no error';
}

describe('secrets', (test) => {
  test('are made once, private to their owner, and stay the same', async (t) => {
    const home = tempDir(t);
    const key = await ensureClusterKey(home);
    assert.is(key.length, 32);
    assert.equal(await ensureClusterKey(home), key);
    assert.equal(await readClusterKey(home), key);
    const token = await ensureToken(home);
    assert.equal(await ensureToken(home), token);
    assert.is(mode(join(home, 'secrets')), 0o700);
    for (const name of ['cluster.key', 'token']) assert.is(mode(join(home, 'secrets', name)), 0o600);
    assert.equal(readdirSync(join(home, 'secrets')).sort(), ['cluster.key', 'token']);
  });

  test('many processes that make the same secret at once agree on one', async (t) => {
    const home = tempDir(t);
    const keys = await Promise.all(Array.from({ length: 16 }, () => ensureClusterKey(home)));
    assert.is(new Set(keys.map((key) => key.toString('hex'))).size, 1);
    assert.is((await ensureClusterKey(tempDir(t))).equals(keys[0]!), false);
    assert.equal(readdirSync(join(home, 'secrets')), ['cluster.key']);
  });

  test('one that others can read is refused with the command that mends it', async (t) => {
    const home = tempDir(t);
    await ensureToken(home);
    for (const bits of [0o640, 0o604, 0o620]) {
      chmodSync(tokenPath(home), bits);
      assert.match(await configError(readToken(home)), `chmod 600 ${tokenPath(home)}`);
    }
    chmodSync(tokenPath(home), 0o600);
    chmodSync(join(home, 'secrets'), 0o750);
    assert.match(await configError(readToken(home)), `chmod 700 ${join(home, 'secrets')}`);
    chmodSync(join(home, 'secrets'), 0o700);
    assert.is(await configError(readToken(home)), 'no error');
  });

  test('a missing or damaged one is refused', async (t) => {
    const home = tempDir(t);
    assert.match(await configError(readClusterKey(home)), 'npm start');
    await ensureClusterKey(home);
    writeFileSync(join(home, 'secrets', 'cluster.key'), 'abc\n');
    assert.match(await configError(readClusterKey(home)), 'cluster.key is not 32 bytes in hex');
    writeFileSync(join(home, 'secrets', 'gateway.json'), '{}', { mode: 0o600 });
    assert.match(await configError(readGatewayRole(home)), 'gateway.json is not');
    writeFileSync(tokenPath(home), 'short', { mode: 0o600 });
    assert.match(await configError(readToken(home)), 'token is not one line');
  });

  test('the file of a gateway does not hold the cluster key', async (t) => {
    const home = tempDir(t);
    const keyring = Keyring.ofSecret(await ensureClusterKey(home));
    const role = await ensureGatewayRole(home, () => keyring.exportRole('gateway'));
    assert.equal(role, keyring.exportRole('gateway'));
    assert.equal(await readGatewayRole(home), role);
    const key = (await readClusterKey(home)).toString('hex');
    assert.is.not(role.key, key);
    assert.is.not(role.rendezvousKey, key);
  });

  test('a token has an id that names it and does not tell it', () => {
    const a = tokenOf('a-token-of-some-length');
    assert.match(a.id, /^[0-9a-f]{16}$/);
    assert.equal(a, tokenOf('a-token-of-some-length'));
    assert.is.not(a.id, tokenOf('another-token-of-some-length').id);
    assert.is(a.id.includes(a.text), false);
  });
});
