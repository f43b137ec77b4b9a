import { randomBytes } from 'node:crypto';
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { decodeName } from '../../common/name.ts';
import { ProcessCluster, tinyPng } from '../kit/process-cluster.ts';
import { filesWith } from '../kit/raw-bytes.ts';
import { type CommandEnd, runTfs } from '../kit/run-tfs.ts';
import { describe, type TestContext } from '../kit/suite.ts';

const SERVERS = [1, 2, 3];

interface Outcome {
  readonly done: boolean;
  readonly names: readonly { readonly name: string; readonly block: number; readonly state: string }[];
  readonly mayHold: readonly { readonly server: number; readonly why: string }[];
  readonly pending: readonly string[];
}

/** A cluster with a picture that has three names: two of one record, the third of a record of its own. */
async function stored(t: TestContext) {
  const cluster = await ProcessCluster.start();
  t.defer(() => cluster.destroy());
  const pattern = randomBytes(64);
  const body = tinyPng(Buffer.concat([randomBytes(9_000), pattern, randomBytes(9_000)]));
  const put = async (bytes: Buffer, query = '') => {
    const reply = await cluster.put(bytes, { query });
    assert.is(reply.status, 201, reply.text);
    return reply;
  };
  const others = new Map<string, Buffer>();
  const fill = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const other = tinyPng(randomBytes(20_000));
      others.set((await put(other)).name, other);
    }
  };
  await fill(5);
  const name = (await put(body)).name;
  await fill(5);
  const alias = await put(body);
  const again = await put(body, '?suffix=_b.png');
  await fill(5);
  return { cluster, pattern, body, name, names: [name, alias.name, again.name], others, put, alias };
}

const holders = (cluster: ProcessCluster, pattern: Buffer): string[] =>
  SERVERS.flatMap((id) => filesWith(cluster.mountPath(id), pattern).map((path) => `${id}: ${path}`));

const erase = (cluster: ProcessCluster, ...args: string[]): Promise<CommandEnd> =>
  runTfs(['erase', ...args, '--home', cluster.home, '--json']);

const outcomeOf = (end: CommandEnd): Outcome => {
  assert.is(end.json.length, 1, end.stderr);
  return end.json[0] as unknown as Outcome;
};

async function assertGone(cluster: ProcessCluster, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const { status } = await cluster.get(name);
    assert.ok(status === 404 || status === 410, `${name} is answered with ${status}`);
  }
}

async function assertRead(cluster: ProcessCluster, pictures: ReadonlyMap<string, Buffer>): Promise<void> {
  for (const [name, body] of pictures) {
    const reply = await cluster.get(name);
    assert.is(reply.status, 200, name);
    assert.ok(reply.body.equals(body), name);
  }
}

describe('tfs erase', (test) => {
  test('shows all names, stops there, and with --all-names leaves no byte on any disk', async (t) => {
    const { cluster, pattern, body, name, names, others, put, alias } = await stored(t);
    assert.is(alias.json['deduplicated'], true);
    // In the memory of the gateway too.
    await assertRead(cluster, new Map(names.map((one) => [one, body])));
    // An earlier repair has left a file in the trash, and a seal records that were cut off.
    await cluster.stopOne('ds3', 'SIGTERM');
    const mount = cluster.mountPath(3);
    const [file] = filesWith(mount, pattern);
    assert.ok(file?.startsWith('blocks/'), `${file}`);
    copyFileSync(join(mount, file!), join(mount, 'trash', `${file!.slice('blocks/'.length)}.${Date.now()}`));
    copyFileSync(join(mount, file!), join(mount, 'surplus', '65537.0.4096.surplus'));
    await cluster.startOne('ds3');
    await cluster.writable();

    const listed = await erase(cluster, name);
    assert.is(listed.code, 6, listed.stderr);
    assert.equal(
      outcomeOf(listed)
        .names.map((one) => [one.name, one.state])
        .sort(),
      names.map((one) => [one, 'live']).sort(),
    );
    await assertRead(cluster, new Map([...others, ...names.map((one): [string, Buffer] => [one, body])]));
    assert.is(
      (await runTfs(['erase', name, '--all-names', '--home', cluster.home])).code,
      2,
      'nobody to ask',
    );

    assert.ok(holders(cluster, pattern).length >= 5);
    const erased = await erase(cluster, name, '--all-names', '--yes');
    assert.is(erased.code, 0, `${JSON.stringify(erased.json)} ${erased.stderr}`);
    assert.equal(holders(cluster, pattern), []);
    await assertGone(cluster, names);
    await assertRead(cluster, others);

    // A file of nobody may hold anything: somebody has to look.
    const stray = join(mount, 'blocks', 'copy-of-a-block');
    writeFileSync(stray, pattern);
    const doubted = await erase(cluster, name, '--yes', '--wait', '5');
    assert.is(doubted.code, 5, `${JSON.stringify(doubted.json)} ${doubted.stderr}`);
    assert.equal(
      outcomeOf(doubted).mayHold.map(({ server }) => server),
      [3],
    );
    assert.match(outcomeOf(doubted).mayHold[0]!.why, 'blocks/copy-of-a-block');
    assert.equal(holders(cluster, pattern), ['3: blocks/copy-of-a-block']);
    rmSync(stray);

    const repeated = await erase(cluster, name, '--yes');
    assert.is(repeated.code, 0, `${JSON.stringify(repeated.json)} ${repeated.stderr}`);
    const back = await put(body);
    assert.is(back.json['deduplicated'], false, 'stored anew');
    assert.not.ok(names.includes(back.name));
    const [one] = [decodeName(back.name)!];
    // Asked once more it finds that somebody has stored it again, and leaves that alone.
    const third = await erase(cluster, name, '--yes');
    assert.is(third.code, 6);
    assert.is(outcomeOf(third).names.find((found) => found.state === 'live')?.block, one!.block);
    assert.is((await cluster.get(back.name)).status, 200);
  });

  test('is not done while a disk is away, and finishes when that is back', async (t) => {
    const { cluster, pattern, name, names, others } = await stored(t);
    await cluster.stopOne('ds2', 'SIGKILL');
    const away = await erase(cluster, name, '--all-names', '--yes', '--wait', '3');
    assert.is(away.code, 5, `${JSON.stringify(away.json)} ${away.stderr}`);
    const outcome = outcomeOf(away);
    assert.is(outcome.done, false);
    assert.ok(outcome.mayHold.some(({ server }) => server === 2));
    assert.ok(holders(cluster, pattern).length > 0);
    await assertGone(cluster, names);
    await cluster.startOne('ds2');
    // Whoever is killed in the middle of it leaves nothing that has to be tidied up.
    const killed = await runTfs(['erase', name, '--all-names', '--yes', '--home', cluster.home], {
      onStart: (child) => void setTimeout(() => child.kill('SIGKILL'), 1_500),
    });
    assert.ok(killed.code === null || killed.code === 0, killed.stderr);
    const back = await erase(cluster, name, '--all-names', '--yes');
    assert.is(back.code, 0, `${JSON.stringify(back.json)} ${back.stderr}`);
    assert.equal(holders(cluster, pattern), []);
    await assertRead(cluster, others);
  });
}, 180_000);
