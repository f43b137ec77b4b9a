import { type ChildProcess, spawn } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { Namespaces } from './namespaces.ts';
import { describe, type TestContext } from './suite.ts';

/** Answers every chunk with the same bytes, and connects to its peer when that is given, sending "tick" to it. */
const ECHO = `
  const net = require('node:net');
  const [host, peer] = process.argv.slice(1);
  net.createServer((s) => { s.on('error', () => {}); s.pipe(s); }).listen(7000, host, () => console.log('ready'));
  if (peer) {
    const s = net.connect(7000, peer);
    s.on('connect', () => setInterval(() => s.write('tick'), 20));
    s.on('data', () => console.log('tock'));
    s.on('error', () => {});
  }`;

describe('network namespaces', (test) => {
  test('cut one way or both, on open connections, and heal; and leave nothing behind', async (t) => {
    const namespaces = await Namespaces.open(['a', 'b']);
    if (typeof namespaces === 'string') {
      process.stdout.write(`\nSKIPPED network namespaces: ${namespaces}\n`);
      return;
    }
    t.defer(() => namespaces.close());
    const b = echo(t, namespaces, 'b');
    await b.says('ready');
    const a = echo(t, namespaces, 'a', 'b');
    await a.says('tock');

    for (const cuts of [
      [{ from: 'a', to: 'b' }],
      [{ from: 'b', to: 'a' }],
      namespaces.between(['a'], ['b']),
      namespaces.isolation('b'),
    ]) {
      await namespaces.cut(cuts);
      await sleep(50);
      const before = a.tocks;
      await sleep(200);
      assert.is(a.tocks, before, `nothing passes ${JSON.stringify(cuts)}`);
      assert.is(await roundTrip(namespaces.addressOf('b')), 'hello', 'the test process is not cut off');
      await namespaces.heal();
      await a.says('tock');
    }

    await namespaces.close();
    assert.is(typeof (await Namespaces.open([])), 'object', 'the same names are free again');
  });
});

function echo(t: TestContext, namespaces: Namespaces, host: string, peer?: string) {
  const address = namespaces.addressOf(host);
  const { program, args } = namespaces.wrap(host, process.execPath, [
    ...['-e', ECHO, address],
    ...(peer === undefined ? [] : [namespaces.addressOf(peer)]),
  ]);
  const child: ChildProcess = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.defer(() => child.kill('SIGKILL'));
  let tocks = 0;
  child.stdout!.on('data', (data: Buffer) => {
    tocks += data.toString().split('tock').length - 1;
  });
  return {
    get tocks() {
      return tocks;
    },
    says: (word: string) =>
      new Promise<void>((resolve) => {
        const listen = (data: Buffer) => {
          if (!data.toString().includes(word)) return;
          child.stdout!.off('data', listen);
          resolve();
        };
        child.stdout!.on('data', listen);
      }),
  };
}

function roundTrip(host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(7000, host, () => socket.write('hello'));
    socket.once('error', reject);
    socket.once('data', (data) => {
      socket.destroy();
      resolve(data.toString());
    });
  });
}
