import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { FakeGateway, TEST_TOKEN } from '../../kit/fake-gateway.ts';
import { tinyPng } from '../../kit/process-cluster.ts';
import { type RunOptions, runTfs } from '../../kit/run-tfs.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

/** A gateway, and the command line pointed at it with the token and no home. */
async function world(t: TestContext) {
  const gateway = await FakeGateway.open(t);
  const dir = tempDir(t);
  const env = { TFS_URL: gateway.url, TFS_TOKEN: TEST_TOKEN.text, TFS_HOME: join(dir, 'no-home') };
  const tfs = (args: string[], options: RunOptions = {}) => runTfs(args, { cwd: dir, env, ...options });
  const picture = (name: string, size = 100) => {
    const bytes = tinyPng(Buffer.from(name), size);
    writeFileSync(join(dir, name), bytes);
    return bytes;
  };
  return { gateway, dir, env, tfs, picture };
}

describe('tfs', (test) => {
  test('put, get and stat: the bytes that were stored, as a file and on standard output', async (t) => {
    const { tfs, picture, dir } = await world(t);
    const bytes = picture('a.png');
    const put = await tfs(['put', 'a.png', '--keep-suffix', '--json']);
    assert.is(put.code, 0, put.stderr);
    const [stored] = put.json;
    const sha1 = createHash('sha1').update(bytes).digest('hex');
    assert.equal([stored?.['file'], stored?.['sha1'], stored?.['size']], ['a.png', sha1, bytes.length]);
    const name = String(stored?.['name']);
    const [toStdout, toFile, toDirectory, stat] = await Promise.all([
      tfs(['get', name]),
      tfs(['get', name, '-o', 'copy.png']),
      tfs(['get', name, '-o', '.', '--json']),
      tfs(['stat', name, '--json']),
    ]);
    assert.equal(toStdout.stdout, bytes);
    assert.is(toFile.code, 0, toFile.stderr);
    assert.equal(readFileSync(join(dir, 'copy.png')), bytes);
    assert.equal(readFileSync(join(dir, String(toDirectory.json[0]?.['file']))), bytes);
    assert.is(toDirectory.json[0]?.['file'], `${name}.png`);
    assert.is(stat.json[0]?.['sha1'], sha1);
    assert.equal(
      readdirSync(dir).filter((file) => file.endsWith('.part')),
      [],
    );
  });

  test('put reads standard input, and goes on after a file that cannot be stored', async (t) => {
    const { tfs, picture, dir } = await world(t);
    picture('good.png');
    writeFileSync(join(dir, 'bad.png'), 'no picture');
    const [piped, mixed] = await Promise.all([
      tfs(['put', '-', '--json'], { stdin: tinyPng(Buffer.from('piped')) }),
      tfs(['put', 'absent.png', 'bad.png', 'good.png', '--json']),
    ]);
    assert.is(piped.code, 0, piped.stderr);
    assert.is(mixed.code, 1);
    assert.equal(
      mixed.json.map((line) => line['file']),
      ['good.png'],
    );
    assert.match(mixed.stderr, 'tfs: absent.png: ');
    assert.match(mixed.stderr, 'tfs: bad.png: ');
  });

  test('rm, undelete, hide and reveal change what a reader sees, and repeats succeed', async (t) => {
    const { tfs, gateway } = await world(t);
    const name = await gateway.store(tinyPng(Buffer.from('mutable')));
    const status = async () => (await gateway.get(`/images/${name}`)).status;
    for (const [command, after] of [
      ['rm', 404],
      ['rm', 404],
      ['undelete', 200],
      ['hide', 404],
      ['reveal', 200],
    ] as const) {
      const end = await tfs([command, name]);
      assert.is(end.code, 0, `${command}: ${end.stderr}`);
      assert.is(await status(), after, command);
    }
  });

  test('exit codes tell what went wrong, and standard error what to do', async (t) => {
    const { tfs, env, dir } = await world(t);
    const unknown = 'T1pRE_ByET1RXl2rqM';
    const [missing, malformed, usage, argument, token, noToken, down, noHome] = await Promise.all([
      tfs(['get', unknown, '-o', 'x']),
      tfs(['rm', 'not-a-name']),
      tfs(['frobnicate']),
      tfs(['put']),
      tfs(['rm', unknown], { env: { ...env, TFS_TOKEN: 'a-token-that-is-wrong' } }),
      tfs(['rm', unknown], { env: { TFS_URL: env.TFS_URL, TFS_HOME: env.TFS_HOME } }),
      tfs(['get', unknown, '-o', 'x'], { env: { ...env, TFS_URL: 'http://127.0.0.1:1' } }),
      tfs(['get', unknown, '-o', 'x'], { env: { TFS_HOME: dir } }),
    ]);
    assert.is(missing.code, 3);
    assert.match(missing.stderr, `tfs: ${unknown}: `);
    assert.is(malformed.code, 2);
    assert.is(usage.code, 2);
    assert.match(usage.stderr, 'unknown command');
    assert.is(argument.code, 2);
    assert.is(token.code, 4);
    assert.match(token.stderr, 'TFS_TOKEN');
    assert.is(noToken.code, 4);
    assert.is(down.code, 5);
    assert.match(down.stderr, 'npm start');
    assert.is(noHome.code, 2);
    assert.match(noHome.stderr, '--url');
    for (const end of [missing, malformed, usage, token, down]) assert.is(end.stdout.length, 0);
  });

  test('every command explains itself', async (t) => {
    const { tfs } = await world(t);
    const help = await tfs(['help']);
    assert.is(help.code, 0);
    const text = help.stdout.toString();
    const commands =
      'put get rm undelete hide reveal stat import status doctor jobs plan why promote add drain undrain remove-server verify scrub fsck dump salvage format bench'.split(
        ' ',
      );
    for (const command of commands) assert.match(text, new RegExp(`^ {2}${command}\\b`, 'm'));
    const one = await tfs(['help', 'import']);
    assert.is(one.code, 0);
    assert.match(one.stdout.toString(), '--json');
    assert.match(one.stdout.toString(), '--manifest');
  });

  test('import: interrupted once, it ends with 130 and the next run does the rest', async (t) => {
    const { tfs, gateway, dir, env } = await world(t);
    const pictures = join(dir, 'pictures');
    mkdirSync(pictures);
    const bytes = new Map<string, Buffer>();
    for (let i = 0; i < 400; i++) {
      bytes.set(`p${i}.png`, tinyPng(Buffer.from(`import ${i}`)));
      writeFileSync(join(pictures, `p${i}.png`), bytes.get(`p${i}.png`)!);
    }
    const manifest = join(dir, 'pictures.tfs-manifest.jsonl');
    const lines = () => (existsSync(manifest) ? readFileSync(manifest, 'utf8').split('\n').length - 2 : 0);
    const first = await tfs(['import', 'pictures', '-j', '1', '--json'], {
      cwd: dir,
      env,
      onStart: (child) => {
        const timer = setInterval(() => {
          if (lines() < 3) return;
          clearInterval(timer);
          child.kill('SIGINT');
        }, 5);
        child.once('exit', () => clearInterval(timer));
      },
    });
    assert.is(first.code, 130, first.stderr);
    assert.match(first.stderr, 'go on where it was');
    const done = lines();
    assert.ok(done < bytes.size, `${done} were done before the interruption`);
    assert.is(first.json[0]?.['stored'], done);
    const second = await tfs(['import', 'pictures', '--json']);
    assert.is(second.code, 0, second.stderr);
    assert.equal([second.json[0]?.['before'], second.json[0]?.['stored']], [done, bytes.size - done]);
    const entries = readFileSync(manifest, 'utf8').split('\n').slice(1).filter(Boolean);
    for (const entry of entries.map((line) => JSON.parse(line))) {
      const reply = await gateway.get(`/images/${entry.name}`);
      assert.equal(reply.body, bytes.get(entry.path));
      bytes.delete(entry.path);
    }
    assert.is(bytes.size, 0);
  });

  test('format refuses what is not in the configuration', async (t) => {
    const { tfs, dir } = await world(t);
    const end = await tfs(['format', 'm9', '--home', dir]);
    assert.is(end.code, 2);
    assert.match(end.stderr, 'npm start');
  });
}, 60_000);
