// The calling process of the rpc benchmark. Told what to call by IPC; answers with a count.
import { pathToFileURL } from 'node:url';
import { Pool } from 'undici';
import { tuneGarbageCollector } from '../../common/adapters/garbage-collector.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { Op } from '../../common/wire/messages.ts';
import { RpcConnection } from '../../common/wire/rpc-connection.ts';

export const benchKeyring = (): Keyring => Keyring.ofSecret(Buffer.alloc(32, 'benchmark'));
/** As a READ of the product. */
export const READ_HEADER_BYTES = 21;
const PUT_HEADER_BYTES = 52;

export interface LoadOrder {
  readonly how: 'frames' | 'http';
  /** What is large: the answer or the question. */
  readonly what: 'read' | 'put';
  readonly size: number;
  readonly inFlight: number;
  readonly seconds: number;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) await main();

async function main(): Promise<void> {
  tuneGarbageCollector();
  const [rpcPort, httpPort] = process.argv.slice(2).map(Number);
  const connection = await RpcConnection.connect({
    net: nodeNet,
    clock: nodeClock,
    random: nodeRandom,
    keyring: benchKeyring(),
    role: 'gateway',
    id: 'bench',
    address: { host: '127.0.0.1', port: rpcPort! },
    timeoutMs: 5000,
  });
  const pool = new Pool(`http://127.0.0.1:${httpPort}`, { connections: 64 });
  process.on('message', async (order: LoadOrder) => {
    const body = Buffer.alloc(order.size, 'picture ');
    const once = order.how === 'frames' ? framed(connection, order, body) : http(pool, order, body);
    process.send?.({ calls: await repeat(once, order) });
  });
  process.once('SIGTERM', () => process.exit(0));
  process.send?.('ready');
}

function framed(connection: RpcConnection, order: LoadOrder, body: Buffer): () => Promise<number> {
  if (order.what === 'read') {
    const header = Buffer.alloc(READ_HEADER_BYTES);
    header.writeUInt32LE(order.size, READ_HEADER_BYTES - 4);
    return async () => (await connection.call(Op.READ, header)).payload.length;
  }
  const header = Buffer.alloc(PUT_HEADER_BYTES);
  const payload = [body];
  return async () => {
    await connection.call(Op.PUT, header, payload);
    return body.length;
  };
}

function http(pool: Pool, order: LoadOrder, body: Buffer): () => Promise<number> {
  return async () => {
    const reply =
      order.what === 'read'
        ? await pool.request({ path: `/${order.size}`, method: 'GET' })
        : await pool.request({ path: '/', method: 'POST', body });
    let bytes = 0;
    // The cheapest way to take a body with undici.
    for await (const chunk of reply.body) bytes += (chunk as Buffer).length;
    return order.what === 'read' ? bytes : body.length;
  };
}

async function repeat(once: () => Promise<number>, order: LoadOrder): Promise<number> {
  const until = performance.now() + order.seconds * 1000;
  let calls = 0;
  const worker = async () => {
    while (performance.now() < until) {
      if ((await once()) !== order.size) throw new Error('an answer of a wrong size');
      calls++;
    }
  };
  await Promise.all(Array.from({ length: order.inFlight }, worker));
  return calls;
}
