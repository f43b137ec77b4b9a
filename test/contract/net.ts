import * as assert from 'uvu/assert';
import { isTfsError } from '../../common/errors.ts';
import type { HostPort } from '../../common/ids.ts';
import type { Net, Stream } from '../../common/seams/net.ts';
import { describe, type TestContext } from '../kit/suite.ts';

const LOOPBACK: HostPort = { host: '127.0.0.1', port: 0 };

/** What `common/seams/net.ts` promises, asked of one implementation. */
export function netContract(name: string, open: () => Net): void {
  describe(`net contract: ${name}`, (test) => {
    test('bytes arrive in order in both directions, whatever pieces they were written in', async (t) => {
      const { client, server } = await pair(t, open());
      const sent: Buffer[] = [];
      for (let i = 0; i < 200; i++) {
        const pieces = Array.from({ length: 1 + (i % 5) }, (_, k) =>
          Buffer.alloc((i * 37 + k) % 5000, i + k),
        );
        client.stream.write(pieces);
        server.stream.write(pieces);
        sent.push(...pieces);
        if (i % 50 === 0) await new Promise(setImmediate);
      }
      const expected = Buffer.concat(sent);
      await Promise.all([server.bytes(expected.length), client.bytes(expected.length)]);
      assert.ok(server.taken().equals(expected));
      assert.ok(client.taken().equals(expected));
    });

    test('what was received is never written over', async (t) => {
      const { client, server } = await pair(t, open());
      const kept: { slice: Buffer; copy: Buffer }[] = [];
      server.stream.onData = (data) => {
        kept.push({ slice: data.subarray(0, 64), copy: Buffer.from(data.subarray(0, 64)) });
        server.add(data);
      };
      for (let i = 0; i < 100; i++) {
        client.stream.write([Buffer.alloc(3000, i)]);
        await server.bytes(3000 * (i + 1));
      }
      for (const { slice, copy } of kept) assert.ok(slice.equals(copy));
    });

    test('a dial that nobody answers is CONNECTION_LOST and names the address', async () => {
      const net = open();
      const listener = await net.listen(LOOPBACK, () => {});
      await listener.close();
      const error = await net.connect(listener.address, 1000).catch((e: unknown) => e);
      assert.ok(isTfsError(error, 'CONNECTION_LOST'), String(error));
      assert.match(String(error), String(listener.address.port));
    });

    test('a port that is taken is CONFLICT and names it', async (t) => {
      const net = open();
      const listener = await net.listen(LOOPBACK, () => {});
      t.defer(() => listener.close());
      const error = await net.listen(listener.address, () => {}).catch((e: unknown) => e);
      assert.ok(isTfsError(error, 'CONFLICT'), String(error));
      assert.match(String(error), String(listener.address.port));
    });

    test('end sends what was written, then both sides are closed, once, without an error', async (t) => {
      const { client, server } = await pair(t, open());
      const data = Buffer.alloc(1 << 20, 7);
      client.stream.write([data.subarray(0, 100)]);
      client.stream.write([data.subarray(100)]);
      client.stream.end();
      client.stream.end();
      await Promise.all([server.closed, client.closed]);
      assert.ok(server.taken().equals(data));
      assert.equal([client.closes, server.closes], [[undefined], [undefined]]);
    });

    test('destroy closes both sides, each once', async (t) => {
      const { client, server } = await pair(t, open());
      const reason = new Error('enough');
      server.stream.destroy(reason);
      server.stream.destroy(new Error('again'));
      await Promise.all([server.closed, client.closed]);
      await new Promise(setImmediate);
      assert.equal(server.closes, [reason]);
      assert.is(client.closes.length, 1);
    });

    test('writing to, ending and destroying a closed stream does nothing', async (t) => {
      const { client, server } = await pair(t, open());
      client.stream.destroy();
      await Promise.all([server.closed, client.closed]);
      assert.is(client.stream.write([Buffer.from('late')]), 0);
      assert.is(server.stream.write([Buffer.from('late')]), 0);
      server.stream.end();
      client.stream.destroy();
      await new Promise(setImmediate);
      assert.is(client.closes.length + server.closes.length, 2);
    });

    test('a paused receiver makes the sender queue; resumed it gets all, and the sender hears of it', async (t) => {
      const { client, server } = await pair(t, open());
      server.stream.pause();
      const piece = Buffer.alloc(1 << 20, 3);
      let queued = 0;
      let written = 0;
      while (queued < 4 << 20 && written < 64) {
        queued = client.stream.write([piece]);
        written++;
        await new Promise(setImmediate);
      }
      assert.ok(queued >= 4 << 20, `${queued} bytes queued`);
      const before = server.taken().length;
      assert.ok(before < written * piece.length);
      const drained = new Promise<void>((resolve) => {
        client.stream.onDrain = resolve;
      });
      server.stream.resume();
      await Promise.all([server.bytes(written * piece.length), drained]);
    });

    test('a sender that goes on writing a little hears, too, that its queue was taken', async (t) => {
      const { client, server } = await pair(t, open());
      server.stream.pause();
      const piece = Buffer.alloc(1 << 20, 3);
      for (let written = 0; client.stream.write([piece]) < 8 << 20 && written < 64; written++)
        await new Promise(setImmediate);
      let drained = false;
      client.stream.onDrain = () => {
        drained = true;
      };
      server.stream.resume();
      const until = performance.now() + 5000;
      while (!drained && performance.now() < until) {
        client.stream.write([Buffer.from('x')]);
        await new Promise(setImmediate);
      }
      assert.ok(drained);
    });

    test('a listener that is closed takes nobody new, keeps its streams, and frees its port', async (t) => {
      const net = open();
      const { client, server, listener } = await pair(t, net);
      await listener.close();
      const error = await net.connect(listener.address, 1000).catch((e: unknown) => e);
      assert.ok(isTfsError(error, 'CONNECTION_LOST'), String(error));
      const second = await net.listen(listener.address, () => {});
      t.defer(() => second.close());
      client.stream.write([Buffer.from('still here')]);
      await server.bytes(10);
    });
  });
}

class End {
  readonly stream: Stream;
  readonly closes: (Error | undefined)[] = [];
  readonly closed: Promise<void>;
  #chunks: Buffer[] = [];
  #length = 0;
  #wanted = Number.POSITIVE_INFINITY;
  #arrived: () => void = () => {};

  constructor(stream: Stream) {
    this.stream = stream;
    stream.onData = (data) => this.add(data);
    this.closed = new Promise((resolve) => {
      stream.onClose = (error) => {
        this.closes.push(error);
        resolve();
      };
    });
  }

  add(data: Buffer): void {
    this.#chunks.push(data);
    this.#length += data.length;
    if (this.#length >= this.#wanted) this.#arrived();
  }

  taken(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  async bytes(count: number): Promise<void> {
    if (this.#length >= count) return;
    await new Promise<void>((resolve) => {
      this.#wanted = count;
      this.#arrived = resolve;
    });
  }
}

async function pair(t: TestContext, net: Net) {
  let accept: (stream: Stream) => void = () => {};
  const accepted = new Promise<End>((resolve) => {
    accept = (stream) => resolve(new End(stream));
  });
  const listener = await net.listen(LOOPBACK, (stream) => accept(stream));
  t.defer(() => listener.close());
  const client = new End(await net.connect(listener.address, 1000));
  const server = await accepted;
  t.defer(() => {
    client.stream.destroy();
    server.stream.destroy();
  });
  return { client, server, listener };
}
