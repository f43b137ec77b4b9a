// A server for the rpc benchmark, in a process of its own: framed calls on one port, node:http on another.
// usage: rpc-server RPC_PORT HTTP_PORT
import { createServer } from 'node:http';
import { tuneGarbageCollector } from '../../common/adapters/garbage-collector.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { silentLog } from '../../common/log.ts';
import { Op } from '../../common/wire/messages.ts';
import { RpcServer } from '../../common/wire/rpc-server.ts';
import { benchKeyring, READ_HEADER_BYTES } from './rpc-load.ts';

// As every server of the product does.
tuneGarbageCollector();
const [rpcPort, httpPort] = process.argv.slice(2).map(Number);
const bodies = new Map<number, Buffer>();
const bodyOf = (size: number): Buffer => {
  const body = bodies.get(size) ?? Buffer.alloc(size, 'picture ');
  bodies.set(size, body);
  return body;
};

const server = await RpcServer.listen({
  net: nodeNet,
  clock: nodeClock,
  random: nodeRandom,
  keyring: benchKeyring(),
  address: { host: '127.0.0.1', port: rpcPort! },
  id: 'bench',
  log: silentLog,
});
const header = Buffer.alloc(52);
const empty = Buffer.alloc(0);
// Asynchronous, as real handlers are.
server.handle(Op.READ, ['gateway'], async (request) => ({
  header,
  payload: [bodyOf(request.header.readUInt32LE(READ_HEADER_BYTES - 4))],
}));
server.handle(Op.PUT, ['gateway'], async () => ({ header: empty }));

const http = createServer((request, response) => {
  if (request.method === 'GET') {
    const body = bodyOf(Number(request.url!.slice(1)));
    response.writeHead(200, { 'content-length': body.length });
    response.end(body);
    return;
  }
  request.resume();
  request.once('end', () => {
    response.writeHead(200, { 'content-length': 2 });
    response.end('ok');
  });
});
http.listen(httpPort, '127.0.0.1', () => process.send?.('ready'));
process.once('SIGTERM', () => process.exit(0));
