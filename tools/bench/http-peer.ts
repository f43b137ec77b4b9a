// A bare node:http server that answers every GET with the same bytes from memory: what Node itself costs.
// usage: http-peer PORT SIZE
import { createServer } from 'node:http';

const [port, size] = process.argv.slice(2).map(Number);
const body = Buffer.alloc(size!, 'picture ');
const server = createServer((request, response) => {
  if (request.method !== 'GET') {
    request.resume();
    response.writeHead(405, { 'content-length': 0 }).end();
    return;
  }
  response.writeHead(200, { 'content-type': 'image/jpeg', 'content-length': body.length, etag: '"x"' });
  response.end(body);
});
server.listen(port, '127.0.0.1', () => process.send?.('ready'));
process.once('SIGTERM', () => process.exit(0));
