import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { describe, type TestContext } from '../kit/suite.ts';
import { tempDir } from '../kit/temp-dir.ts';

const SETUP = join(import.meta.dirname, '..', '..', 'tools', 'setup.mjs');

/** A checkout with a stand-in for npm, and a PATH with nothing on it but Node, a shell and what a test adds. */
function checkout(t: TestContext) {
  const root = tempDir(t);
  const bin = join(root, 'bin');
  for (const directory of ['tools', 'common', 'nameserver', 'dataserver', 'client', 'types', 'bin'])
    mkdirSync(join(root, directory));
  copyFileSync(SETUP, join(root, 'tools', 'setup.mjs'));
  const write = (file: string, text: string) => writeFileSync(join(root, file), text);
  write('package.json', JSON.stringify({ type: 'module', engines: { node: '>=20.19 <21' } }));
  write('package-lock.json', '{}');
  write('tsconfig.json', '{}');
  write('common/a.ts', 'export const a = 1;');
  const program = (name: string, script: string) => {
    writeFileSync(join(bin, name), `#!/bin/sh\necho "${name} $*" >> "${join(root, 'calls')}"\n${script}\n`);
    chmodSync(join(bin, name), 0o755);
  };
  symlinkSync(process.execPath, join(bin, 'node'));
  for (const name of ['sh', 'mkdir', 'cat', 'touch', 'chmod']) symlinkSync(`/bin/${name}`, join(bin, name));
  // Installs a compiler that writes the one file that set-up touches afterwards.
  program(
    'npm',
    `mkdir -p "${root}/node_modules/typescript/bin"
cat > "${root}/node_modules/typescript/bin/tsc" <<'END'
const { appendFileSync, mkdirSync, writeFileSync } = require('node:fs');
appendFileSync('${root}/calls', 'tsc ' + process.argv.slice(2).join(' ') + '\\n');
mkdirSync('${root}/dist/tools', { recursive: true });
writeFileSync('${root}/dist/tools/tfs.js', '');
END
echo '{"type":"commonjs"}' > "${root}/node_modules/package.json"; touch "${root}/node_modules/.package-lock.json"`,
  );
  const run = (env: Record<string, string> = {}, args: string[] = []) => {
    const started = existsSync(join(root, 'calls')) ? readFileSync(join(root, 'calls'), 'utf8') : '';
    const { status, stdout, stderr } = spawnSync(
      join(bin, 'node'),
      [join(root, 'tools/setup.mjs'), ...args],
      {
        cwd: root,
        env: { PATH: bin, HOME: root, ...env },
        encoding: 'utf8',
      },
    );
    const calls = existsSync(join(root, 'calls')) ? readFileSync(join(root, 'calls'), 'utf8') : '';
    return { status, stdout, stderr, calls: calls.slice(started.length).split('\n').filter(Boolean) };
  };
  return { root, bin, program, write, run };
}

const WITH_REDIS = { REDIS_URL: 'redis://elsewhere' };

describe('set-up script', (test) => {
  test('installs and compiles in a fresh checkout, and does nothing the second time', (t) => {
    const { run } = checkout(t);
    const first = run(WITH_REDIS);
    assert.is(first.status, 0, first.stderr);
    assert.equal(first.calls, ['npm ci --include=dev --no-audit --no-fund', 'tsc -p tsconfig.json']);
    assert.match(first.stdout, 'npm ci');
    const second = run(WITH_REDIS);
    assert.equal([second.status, second.stdout, second.calls], [0, '', []]);
  });

  test('compiles again when a source changed, installs again when the lock changed', (t) => {
    const { run, write } = checkout(t);
    run(WITH_REDIS);
    write('common/a.ts', 'export const a = 2;');
    assert.equal(run(WITH_REDIS).calls, ['tsc -p tsconfig.json']);
    write('package-lock.json', '{ }');
    assert.equal(run(WITH_REDIS).calls, [
      'npm ci --include=dev --no-audit --no-fund',
      'tsc -p tsconfig.json',
    ]);
  });

  test('a failed installation is not taken for done', (t) => {
    const { run, program } = checkout(t);
    program('npm', 'exit 1');
    const failed = run(WITH_REDIS);
    assert.is(failed.status, 1);
    assert.match(failed.stderr, 'npm ci --include=dev');
    assert.equal(run(WITH_REDIS).calls, ['npm ci --include=dev --no-audit --no-fund']);
  });

  test('installs redis-server with the package manager of the system when it is missing', (t) => {
    const { run, program, bin } = checkout(t);
    program(
      'apt-get',
      `[ "$1" = update ] || { touch "${bin}/redis-server"; chmod +x "${bin}/redis-server"; }`,
    );
    const { status, calls, stdout, stderr } = run();
    if (process.getuid?.() !== 0) {
      assert.is(status, 1);
      assert.match(stderr, `sudo sh -c 'apt-get update && apt-get install`);
      return;
    }
    assert.is(status, 0, stderr);
    assert.equal(calls.slice(2), [
      'apt-get update',
      'apt-get install -y --no-install-recommends redis-server',
    ]);
    assert.match(stdout, 'redis-server is missing; installing it');
    assert.equal(run().calls, []);
  });

  test('says the exact command where it cannot install redis-server', (t) => {
    const { run, program } = checkout(t);
    const none = run();
    assert.is(none.status, 1);
    assert.match(none.stderr, 'REDIS_URL');
    program('apt-get', 'exit 100');
    const failed = run();
    assert.is(failed.status, 1);
    assert.match(failed.stderr, 'apt-get update && apt-get install -y --no-install-recommends redis-server');
  });

  test('needs no redis-server where a Redis is given, in the environment or in the configuration', (t) => {
    const { run, root } = checkout(t);
    assert.is(run(WITH_REDIS).status, 0);
    assert.is(run().status, 1);
    assert.is(run({}, ['--no-redis']).status, 0);
    mkdirSync(join(root, '.tfs'));
    writeFileSync(join(root, '.tfs', 'config.json'), JSON.stringify({ redis: { url: 'redis://elsewhere' } }));
    assert.is(run().status, 0);
  });
});
