import { connect } from 'node:net';
import { Agent, request } from 'undici';
import type { z } from 'zod';
import { TfsClient } from '../../client/client.ts';
import { CacheRules } from '../../client/gateway/cache-rules.ts';
import { Gateway, type GatewayOptions } from '../../client/gateway/gateway.ts';
import { GatewayMetrics } from '../../client/gateway/gateway-metrics.ts';
import type { ImagesOptions } from '../../client/gateway/images/open-images.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { zImages } from '../../common/config-images.ts';
import { silentLog } from '../../common/log.ts';
import { tokenOf } from '../../common/secrets.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { Peers } from '../../common/wire/peers.ts';
import { FAKE_UUID, FakeCluster } from './fake-cluster.ts';
import type { TestContext } from './suite.ts';
import { tempDir } from './temp-dir.ts';

export interface HttpReply {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Buffer;
  /** Of a JSON body. */
  readonly json: Record<string, unknown>;
}

interface HttpOptions {
  readonly headers?: Record<string, string>;
  readonly body?: Buffer | string | AsyncIterable<Buffer> | FormData;
}

/** What caches are told where a test says nothing else. */
export const TEST_RULES = new CacheRules(zImages.parse({}));

/** One worker by itself, which makes whatever is asked for. */
export const testImages = (t: TestContext, config: z.input<typeof zImages> = {}): ImagesOptions => ({
  config: zImages.parse({ policy: 'any', diskDir: tempDir(t, 'tfs-renditions-'), ...config }),
  keys: [{ id: 'k1', secret: Buffer.alloc(32, 7) }],
  socketDirectory: tempDir(t, 'tfs-sockets-'),
  index: 0,
  count: 1,
  decoders: 1,
});

export const TEST_TOKEN = tokenOf('a-token-that-only-tests-have');
export const AUTH = { authorization: `Bearer ${TEST_TOKEN.text}` };

/** A real gateway on the loopback address, before a cluster in memory that speaks the real wire protocol over TCP. */
export class FakeGateway {
  readonly cluster: FakeCluster;
  readonly gateway: Gateway;
  readonly client: TfsClient;
  readonly #agent = new Agent();

  static async open(t: TestContext, options: Partial<GatewayOptions> = {}): Promise<FakeGateway> {
    const cluster = new FakeCluster();
    await cluster.listen();
    t.defer(() => cluster.close());
    const keyring = Keyring.ofExport(cluster.keyring.exportRole('gateway'));
    const wire = { net: nodeNet, clock: nodeClock, random: nodeRandom };
    const peers = Peers.open({ ...wire, keyring, role: 'gateway', id: 'gateway-0' });
    t.defer(() => peers.close());
    const client = await TfsClient.open({
      peers,
      nameservers: cluster.nameserverAddresses,
      rendezvousKey: keyring.rendezvousKey,
      clusterDigit: 1,
      clusterUuid: FAKE_UUID,
      clock: nodeClock,
      random: nodeRandom,
      log: silentLog,
    });
    t.defer(() => client.close());
    const metrics = GatewayMetrics.open({ id: '0', processMetrics: false });
    const gateway = await Gateway.open({
      address: { host: '127.0.0.1', port: 0 },
      id: '0',
      version: 'test',
      client,
      tokens: [TEST_TOKEN],
      clock: nodeClock,
      log: silentLog,
      metrics,
      pictureBytesMax: 4 << 20,
      anyType: false,
      hotBytesMax: 8 << 20,
      images: testImages(t),
      ...options,
    });
    await client.ready(5000);
    return new FakeGateway(t, cluster, gateway, client);
  }

  private constructor(t: TestContext, cluster: FakeCluster, gateway: Gateway, client: TfsClient) {
    this.cluster = cluster;
    this.gateway = gateway;
    this.client = client;
    t.defer(async () => {
      await this.#agent.destroy();
      await gateway.close();
    });
  }

  get port(): number {
    return this.gateway.address.port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async http(method: string, path: string, options: HttpOptions = {}): Promise<HttpReply> {
    const reply = await request(`${this.url}${path}`, {
      method: method as 'GET',
      dispatcher: this.#agent,
      headers: options.headers ?? {},
      body: (options.body ?? null) as Buffer | null,
    });
    const body = Buffer.from(await reply.body.arrayBuffer());
    const isJson = String(reply.headers['content-type']).startsWith('application/json') && body.length > 0;
    const json = isJson ? (JSON.parse(body.toString('utf8')) as Record<string, unknown>) : {};
    return { status: reply.statusCode, headers: reply.headers, body, json };
  }

  get(path: string, headers: Record<string, string> = {}): Promise<HttpReply> {
    return this.http('GET', path, { headers });
  }

  post(body: Buffer, more: { path?: string; headers?: Record<string, string> } = {}): Promise<HttpReply> {
    return this.http('POST', more.path ?? '/images', { headers: { ...AUTH, ...more.headers }, body });
  }

  /** Uploads and insists on it. @returns the name */
  async store(body: Buffer, suffix = ''): Promise<string> {
    const reply = await this.post(body, { path: `/images${suffix === '' ? '' : `?suffix=${suffix}`}` });
    if (reply.status !== 201) throw new Error(`upload: ${reply.status} ${reply.body.toString('utf8')}`);
    return String(reply.json['name']);
  }

  /** Sends bytes as they are. @returns everything that came back until the gateway closed, or `quietMs` passed */
  raw(
    chunks: readonly (string | Buffer)[],
    { end = false, quietMs = 3000 }: { readonly end?: boolean; readonly quietMs?: number } = {},
  ): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.port, '127.0.0.1');
      let got = '';
      const finish = () => {
        clearTimeout(timer);
        socket.destroy();
        resolve(got);
      };
      const timer = setTimeout(finish, quietMs);
      socket.setEncoding('latin1');
      socket.on('data', (data) => {
        got += data;
      });
      socket.on('end', finish);
      socket.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ECONNRESET' || error.code === 'EPIPE') finish();
        else reject(error);
      });
      socket.on('connect', () => {
        for (const chunk of chunks) socket.write(chunk);
        if (end) socket.end();
      });
    });
  }
}

/** A header that says PNG of 3 x 2, and a unique tail. */
export function png(tail: Buffer, size = 0): Buffer {
  const head = Buffer.from('89504e470d0a1a0a0000000d49484452000000030000000208060000009d74661a', 'hex');
  const body = Buffer.concat([head, tail]);
  return size > body.length ? Buffer.concat([body, Buffer.alloc(size - body.length, tail)]) : body;
}
