import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import * as assert from 'uvu/assert';
import { receiveBody } from '../../../client/gateway/receive-body.ts';
import { UploadGate } from '../../../client/gateway/upload-gate.ts';
import { nodeClock } from '../../../common/adapters/node-clock.ts';
import { isTfsError } from '../../../common/errors.ts';
import { describe } from '../../kit/suite.ts';

describe('receiving a body', (test) => {
  test('of a client that left before anybody asked for it is over at once, and holds no place', async (t) => {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.defer(() => server.close());
    const asked = once(server, 'request');
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf');
    const [request, response] = (await asked) as [IncomingMessage, ServerResponse];
    request.on('error', () => undefined);
    const gone = new Promise((resolve) => request.on('close', resolve));
    socket.destroy();
    await gone;
    await new Promise((resolve) => setTimeout(resolve, 50));

    const gate = UploadGate.open({ clock: nodeClock });
    t.defer(() => gate.close());
    let thrown: unknown;
    try {
      await receiveBody(request, response, { gate, bytesMax: 1000, onPiece: () => undefined });
    } catch (error) {
      thrown = error;
    }
    assert.ok(isTfsError(thrown, 'BODY_CUT'), String(thrown));
    assert.is(gate.bytesInFlight, 0);
  });
});
