import * as assert from 'uvu/assert';
import { z } from 'zod';
import { isTfsError } from '../../../common/errors.ts';
import { DIAL_BACKOFF_MS_MAX, DIAL_BACKOFF_MS_MIN } from '../../../common/limits.ts';
import { decodeControl, encodeControl } from '../../../common/wire/control.ts';
import { Op } from '../../../common/wire/messages.ts';
import { RpcConnection } from '../../../common/wire/rpc-connection.ts';
import { turns } from '../../kit/memory-net.ts';
import { describe } from '../../kit/suite.ts';
import { WireWorld } from '../../kit/wire-world.ts';

const EMPTY = Buffer.alloc(0);
const failure = (call: PromiseLike<unknown>): Promise<unknown> =>
  Promise.resolve(call).then(
    () => 'no error',
    (error: unknown) => error,
  );

describe('peers', (test) => {
  test('calls made at once share one dial, later ones its connection', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const peers = world.peers();
    assert.is(world.net.dials, 0);
    await Promise.all(Array.from({ length: 20 }, () => peers.call(server.address, Op.PING, EMPTY)));
    await peers.call({ ...server.address }, Op.PING, EMPTY);
    assert.is(world.net.dials, 1);
    const connection = peers.get(server.address);
    assert.instance(connection, RpcConnection);
    assert.is(peers.get({ ...server.address }), connection);
  });

  test('a lost connection is dialled again by the next call', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const peers = world.peers();
    await peers.call(server.address, Op.PING, EMPTY);
    world.net.links[0]!.cut();
    await turns(3);
    await peers.call(server.address, Op.PING, EMPTY);
    assert.is(world.net.dials, 2);
  });

  test('after a failed dial calls fail at once for a while that doubles up to a limit, and then dial again', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const peers = world.peers();
    world.net.refuse = 'refused';
    let backoffMs = DIAL_BACKOFF_MS_MIN;
    for (let round = 1; round <= 8; round++) {
      assert.ok(isTfsError(await failure(peers.call(server.address, Op.PING, EMPTY)), 'CONNECTION_LOST'));
      assert.is(world.net.dials, round);
      world.clock.advance(backoffMs - 1);
      assert.ok(isTfsError(await failure(peers.call(server.address, Op.PING, EMPTY)), 'CONNECTION_LOST'));
      assert.is(world.net.dials, round, 'no dial during the back-off');
      world.clock.advance(1);
      backoffMs = Math.min(DIAL_BACKOFF_MS_MAX, backoffMs * 2);
    }
    world.net.refuse = 'no';
    await peers.call(server.address, Op.PING, EMPTY);
    world.net.links[0]!.cut();
    await turns(3);
    world.net.refuse = 'refused';
    await failure(peers.call(server.address, Op.PING, EMPTY));
    world.net.refuse = 'no';
    world.clock.advance(DIAL_BACKOFF_MS_MIN);
    await peers.call(server.address, Op.PING, EMPTY);
  });

  test('one dead address holds up no other', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const listener = await world.net.listen({ host: '10.0.0.9', port: 9 }, () => {});
    t.defer(() => listener.close());
    const peers = world.peers();
    const stuck = failure(peers.call(listener.address, Op.PING, EMPTY));
    await peers.call(server.address, Op.PING, EMPTY);
    await world.pass(2100);
    assert.ok(isTfsError(await stuck, 'CONNECTION_LOST'));
  });

  test('control messages are checked on arrival', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const schema = z.object({ n: z.number() });
    server.handle(Op.STATUS, ['gateway'], (r) => {
      const { n } = decodeControl(schema, r.header, 'STATUS');
      return { header: encodeControl({ n: n + 1, extra: true }), payload: [r.payload] };
    });
    const peers = world.peers();
    const good = await peers.callControl(
      server.address,
      Op.STATUS,
      { n: 1 },
      schema,
      [Buffer.from('p')],
      1000,
    );
    assert.equal(good.message, { n: 2 });
    assert.is(good.payload.toString(), 'p');
    const wrongAnswer = await failure(
      peers.callControl(server.address, Op.STATUS, { n: 1 }, z.object({ n: z.string() })),
    );
    assert.ok(isTfsError(wrongAnswer, 'PROTOCOL'));
    assert.match(String(wrongAnswer), 'STATUS');
    const wrongQuestion = await failure(peers.callControl(server.address, Op.STATUS, { n: 'x' }, schema));
    assert.ok(isTfsError(wrongQuestion, 'PROTOCOL'));
  });

  test('a call waits for a dial no longer than for an answer', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const peers = world.peers();
    const connect = world.net.connect.bind(world.net);
    let answer: () => void = () => undefined;
    world.net.connect = async (...args) => {
      await new Promise<void>((resolve) => {
        answer = resolve;
      });
      return connect(...args);
    };
    let error: unknown;
    void failure(peers.call(server.address, Op.PING, EMPTY, undefined, 300)).then((thrown) => {
      error = thrown;
    });
    await world.pass(280);
    assert.is(error, undefined);
    await world.pass(40);
    assert.ok(isTfsError(error, 'DEADLINE'), String(error));
    answer();
    await turns(10);
    assert.instance(peers.get(server.address), RpcConnection, 'the dial went on');
  });

  test('closed peers refuse calls, and a dial on the way ends with them', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const peers = world.peers();
    const early = failure(peers.call(server.address, Op.PING, EMPTY));
    await peers.close();
    assert.ok(isTfsError(await early, 'CLOSED'), String(await early));
    assert.ok(isTfsError(await failure(peers.call(server.address, Op.PING, EMPTY)), 'CLOSED'));
    await turns(4);
    assert.ok(world.net.links.every((link) => link.client.closed && link.server.closed));
  });
});
