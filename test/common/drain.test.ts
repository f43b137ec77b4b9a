import { type ChildProcess, fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { describe, type TestContext } from '../kit/suite.ts';
import { tempDir } from '../kit/temp-dir.ts';

const ROOT = join(import.meta.dirname, '..', '..');

interface Child {
  readonly process: ChildProcess;
  readonly messages: unknown[];
  /** Resolves with the exit code (or signal) and everything it printed. */
  readonly ended: Promise<{ code: number | string; out: string }>;
  said(text: string): Promise<void>;
}

/** A process whose main is `runServer` with this body; it has an IPC channel, as under PM2. */
function server(t: TestContext, body: string, options = ''): Child {
  const file = join(tempDir(t), 'main.mts');
  writeFileSync(
    file,
    `import { runServer } from ${JSON.stringify(join(ROOT, 'common/drain.ts'))};
     import { TfsError } from ${JSON.stringify(join(ROOT, 'common/errors.ts'))};
     const say = (text: string) => process.stdout.write(text + '\\n');
     const forever = () => setInterval(() => {}, 1e6);
     await runServer({ kind: 'test', id: '1', ${options} open: async (log) => { ${body} } });
     export { TfsError, say, forever };`,
  );
  const child = fork(file, { cwd: ROOT, execArgv: ['--import', 'tsx'], silent: true });
  t.defer(() => child.kill('SIGKILL'));
  let out = '';
  const messages: unknown[] = [];
  const waiting: (() => void)[] = [];
  const hear = (data: Buffer) => {
    out += data.toString();
    for (const wake of waiting.splice(0)) wake();
  };
  child.stdout?.on('data', hear);
  child.stderr?.on('data', hear);
  child.on('message', (message) => messages.push(message));
  const ended = new Promise<{ code: number | string; out: string }>((resolve) =>
    child.on('close', (code, signal) => resolve({ code: code ?? signal ?? '', out })),
  );
  const said = async (text: string): Promise<void> => {
    while (!out.includes(text)) {
      const end = await Promise.race([new Promise<void>((resolve) => waiting.push(resolve)), ended]);
      if (end !== undefined)
        throw new Error(`it ended with ${end.code} before it said "${text}": ${end.out}`);
    }
  };
  return { process: child, messages, ended, said };
}

const SERVES = `forever(); return { close: async () => { say('drained'); } };`;

describe('the life of a server process', (test) => {
  for (const how of ['SIGINT', 'SIGTERM', 'shutdown'] as const)
    test(`${how} stops it once, gracefully, with exit code 0`, async (t) => {
      const child = server(t, SERVES);
      await child.said('"message":"ready"');
      assert.equal(child.messages, ['ready']);
      const ask = () => (how === 'shutdown' ? child.process.send('shutdown') : child.process.kill(how));
      ask();
      ask();
      const { code, out } = await child.ended;
      assert.is(code, 0, out);
      assert.is(out.match(/drained/g)?.length, 1);
      assert.match(out, '"message":"stopped"');
    });

  test('a stop that was asked for while it opens happens after it opened', async (t) => {
    const child = server(
      t,
      `say('opening'); await new Promise((go) => process.once('message', go)); ${SERVES}`,
    );
    await child.said('opening');
    child.process.kill('SIGINT');
    child.process.send('go on');
    const { code, out } = await child.ended;
    assert.is(code, 0, out);
    assert.match(out, 'drained');
  });

  test('a stop that hangs is ended at its bound with exit code 1', async (t) => {
    const child = server(t, 'forever(); return { close: () => new Promise(() => {}) };', 'stopMsMax: 200,');
    await child.said('"message":"ready"');
    child.process.kill('SIGINT');
    const { code, out } = await child.ended;
    assert.is(code, 1);
    assert.match(out, 'did not stop in time');
  });

  test('a refusal to start ends with 78 and its message, any other failure with 1', async (t) => {
    const refused = await server(t, `throw new TfsError('REFUSED', 'this disk is of another cluster');`)
      .ended;
    assert.is(refused.code, 78);
    assert.match(refused.out, 'this disk is of another cluster');
    const config = await server(t, `throw new TfsError('CONFIG', 'unknown key');`).ended;
    assert.is(config.code, 78);
    const failed = await server(t, `throw new TfsError('CONFLICT', 'the port is taken');`).ended;
    assert.is(failed.code, 1);
    assert.match(failed.out, 'the port is taken');
  });

  test('a rejection that nobody handles ends the process, as a thrown error does', async (t) => {
    const rejected = server(t, `setTimeout(() => void Promise.reject(new Error('lost')), 50); ${SERVES}`);
    const thrown = server(t, `setTimeout(() => { throw new Error('bug'); }, 50); ${SERVES}`);
    const first = await rejected.ended;
    assert.is(first.code, 1);
    assert.match(first.out, 'lost');
    const second = await thrown.ended;
    assert.is(second.code, 1);
    assert.match(second.out, 'a bug: this process ends now');
  });
}, 30_000);
