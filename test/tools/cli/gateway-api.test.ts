import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import * as assert from 'uvu/assert';
import { isTfsError } from '../../../common/errors.ts';
import { GatewayApi } from '../../../tools/cli/gateway-api.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

type Answer = (response: ServerResponse, request: IncomingMessage) => void;

const STORED = {
  ...{ name: 'T1', url: 'u', size: 4, sha1: 's', mediaType: 'image/png' },
  ...{ deduplicated: false, replicas: 3, durable: true },
};
const stored: Answer = (response) => void response.writeHead(201).end(JSON.stringify(STORED));
const error =
  (status: number, code: string, headers: Record<string, string> = {}): Answer =>
  (response) =>
    void response
      .writeHead(status, headers)
      .end(JSON.stringify({ code, message: `said ${code}`, requestId: 'r' }));
const cut: Answer = (_, request) => void request.socket.destroy();

/** A server that gives the answers in order, the last one for ever. */
async function scripted(t: TestContext, answers: Answer[], path = '') {
  const seen: Seen[] = [];
  const server = createServer(async (request, response) => {
    const answer = answers[Math.min(seen.length, answers.length - 1)]!;
    const body = await buffer(request).catch(() => Buffer.alloc(0));
    seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers, body });
    answer(response, request);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
  const api = GatewayApi.open({ url, token: 'a-secret-token', connections: 2 });
  t.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  t.defer(() => api.close());
  return { api, seen, server };
}

async function failure(work: Promise<unknown>): Promise<{ code: string; message: string }> {
  try {
    await work;
  } catch (thrown) {
    if (isTfsError(thrown)) return { code: thrown.code, message: thrown.message };
    throw thrown;
  }
  return { code: 'none', message: '' };
}

const bytes = Buffer.from('four');

describe('gateway API of the tools', (test) => {
  test('an upload that may succeed later is sent again whole, under the same key', async (t) => {
    const { api, seen } = await scripted(t, [
      error(503, 'UNAVAILABLE', { 'retry-after': '0.05' }),
      cut,
      stored,
    ]);
    const answer = await api.put({ body: () => Readable.from([bytes]), size: 4, key: 'k1', suffix: '.png' });
    assert.is(answer.name, 'T1');
    assert.is(seen.length, 3);
    for (const { method, url, headers, body } of [seen[0]!, seen[2]!]) {
      assert.equal([method, url], ['POST', '/images?suffix=.png']);
      assert.equal([headers['idempotency-key'], headers['authorization']], ['k1', 'Bearer a-secret-token']);
      assert.equal([headers['content-length'], body], ['4', bytes]);
    }
  });

  test('an answer that is final is not asked for again', async (t) => {
    for (const [status, code] of [
      [415, 'UNSUPPORTED_MEDIA'],
      [401, 'UNAUTHORIZED'],
      [404, 'NOT_FOUND'],
      [410, 'GONE'],
    ] as const) {
      const { api, seen } = await scripted(t, [error(status, code)]);
      const { code: got, message } = await failure(api.mutate('T1', 'undelete', 'k'));
      assert.is(got, code);
      assert.match(message, `said ${code}`);
      assert.is(seen.length, 1);
      assert.is(seen[0]?.url, '/images/T1/undelete');
    }
  });

  test('what something else on the way answers is said to be that', async (t) => {
    const { api } = await scripted(t, [(response) => void response.writeHead(404).end('<h1>nginx</h1>')]);
    const { code, message } = await failure(api.metadata('T1'));
    assert.is(code, 'BAD_REQUEST');
    assert.match(message, 'not from a gateway: <h1>nginx</h1>');
  });

  test('a gateway below a path, and names that need escaping', async (t) => {
    const { api, seen } = await scripted(t, [error(404, 'NOT_FOUND')], '/store/');
    await failure(api.metadata('../a b'));
    assert.is(seen[0]?.url, '/store/images/..%2Fa%20b/metadata');
  });

  test('an abort ends the waiting between attempts', async (t) => {
    const { api, seen } = await scripted(t, [error(503, 'UNAVAILABLE', { 'retry-after': '60' })]);
    const stop = new AbortController();
    const put = api.put({ body: () => bytes, size: 4, key: 'k', signal: stop.signal });
    while (seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    setTimeout(() => stop.abort(new Error('enough')), 50);
    let message = '';
    await put.catch((thrown: Error) => {
      message = thrown.message;
    });
    assert.is(message, 'enough');
    assert.is(seen.length, 1);
  });

  test('an address that is none is refused before anything is sent', () => {
    for (const url of ['', 'ftp://host', 'localhost:7500', 'nonsense'])
      assert.throws(
        () => GatewayApi.open({ url, connections: 1 }),
        (thrown: unknown) => isTfsError(thrown, 'CONFIG'),
      );
  });
}, 30_000);
