import { once } from 'node:events';
import { connect } from 'node:net';
import * as assert from 'uvu/assert';
import { nodeClock } from '../../../common/adapters/node-clock.ts';
import { nodeNet } from '../../../common/adapters/node-net.ts';
import { nodeRandom } from '../../../common/adapters/node-random.ts';
import { isTfsError } from '../../../common/errors.ts';
import { silentLog } from '../../../common/log.ts';
import { Keyring } from '../../../common/wire/keys.ts';
import { Op } from '../../../common/wire/messages.ts';
import { RpcConnection } from '../../../common/wire/rpc-connection.ts';
import { type RpcHandler, RpcServer } from '../../../common/wire/rpc-server.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { SECRET } from '../../kit/wire-world.ts';

const EMPTY = Buffer.alloc(0);
const base = { net: nodeNet, clock: nodeClock, random: nodeRandom, keyring: Keyring.ofSecret(SECRET) };

async function serve(t: TestContext, handler: RpcHandler): Promise<RpcServer> {
  const address = { host: '127.0.0.1', port: 0 };
  const server = await RpcServer.listen({ ...base, address, id: 'ds-1', log: silentLog });
  t.defer(() => server.close());
  server.handle(Op.READ, ['gateway'], handler);
  return server;
}

async function dial(t: TestContext, server: RpcServer): Promise<RpcConnection> {
  const { address } = server;
  const connection = await RpcConnection.connect({
    ...base,
    role: 'gateway',
    id: 'gw',
    address,
    timeoutMs: 5000,
  });
  t.defer(() => connection.close());
  return connection;
}

describe('rpc over tcp', (test) => {
  test('payloads of every size come back as they were, many at once on several connections', async (t) => {
    const server = await serve(t, async (r) => ({ header: r.header, payload: [r.payload] }));
    const connections = [await dial(t, server), await dial(t, server)];
    const sizes = [0, 1, 100, 1024, 2049, 10_240, 65_536, 70_000, 300_000];
    await Promise.all(
      Array.from({ length: 1200 }, async (_, n) => {
        const size = sizes[n % sizes.length]!;
        const payload = Buffer.alloc(size, `${n} `);
        const cut = Math.floor(size / 3);
        const header = Buffer.from(`call ${n}`);
        const reply = await connections[n & 1]!.call(Op.READ, header, [
          payload.subarray(0, cut),
          payload.subarray(cut),
        ]);
        assert.ok(reply.header.equals(header));
        assert.ok(reply.payload.equals(payload), `payload ${n} of ${size} bytes`);
      }),
    );
  });

  test('a frame of the size of a block passes', async (t) => {
    const server = await serve(t, (r) => ({ header: EMPTY, payload: [r.payload] }));
    const payload = Buffer.alloc(64 << 20, 'block');
    const reply = await (await dial(t, server)).call(Op.READ, EMPTY, [payload], 9000);
    assert.ok(reply.payload.equals(payload));
  });

  test('strangers are shown the door and disturb nobody', async (t) => {
    const server = await serve(t, (r) => ({ header: r.header }));
    const good = await dial(t, server);
    for (const text of [
      'GET / HTTP/1.1\r\nhost: x\r\n\r\n',
      '\x16\x03\x01\x02\x00',
      'TFSW\x01\x00\x09\x00'.padEnd(80, 'x'),
    ]) {
      const socket = connect(server.address.port, server.address.host);
      t.defer(() => socket.destroy());
      socket.on('error', () => socket.destroy());
      socket.resume();
      socket.write(text, 'latin1');
      await once(socket, 'close');
    }
    assert.is((await good.call(Op.READ, Buffer.from('x'))).header.toString(), 'x');
  });

  test('a server that stops rejects what it had not answered, and the port is free again', async (t) => {
    const server = await serve(t, () => new Promise(() => {}));
    const connection = await dial(t, server);
    const calls = Array.from({ length: 50 }, () =>
      connection.call(Op.READ, EMPTY).catch((error: unknown) => error),
    );
    await connection.call(Op.PING, EMPTY);
    const { address } = server;
    await server.close();
    for (const error of await Promise.all(calls))
      assert.ok(isTfsError(error, 'CONNECTION_LOST'), String(error));
    const again = await RpcServer.listen({ ...base, address, id: 'ds-1', log: silentLog });
    await again.close();
  });
});
