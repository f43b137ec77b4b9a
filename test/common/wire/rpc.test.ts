import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../../common/errors.ts';
import {
  CALLS_IN_FLIGHT_PER_CONNECTION_MAX,
  CONNECTION_OUT_BYTES_MAX,
  HANDSHAKE_MS_MAX,
  HANDSHAKES_PER_SERVER_MAX,
  PROBE_MS_MAX,
} from '../../../common/limits.ts';
import { encodeFrame, FrameKind } from '../../../common/wire/frame.ts';
import { ClientHandshake } from '../../../common/wire/handshake.ts';
import { Keyring } from '../../../common/wire/keys.ts';
import { Op } from '../../../common/wire/messages.ts';
import type { RpcRequest, RpcResult } from '../../../common/wire/rpc-server.ts';
import { turn, turns } from '../../kit/memory-net.ts';
import { describe } from '../../kit/suite.ts';
import { WireWorld } from '../../kit/wire-world.ts';

const EMPTY = Buffer.alloc(0);
const echo = (r: RpcRequest): RpcResult => ({ header: r.header, payload: [r.payload] });
const failure = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => 'no error',
    (error: unknown) => error,
  );

/** A handler that answers when the test says so. */
function held() {
  const calls: {
    request: RpcRequest;
    answer: (result: RpcResult) => void;
    fail: (error: unknown) => void;
  }[] = [];
  const handler = (request: RpcRequest): Promise<RpcResult> =>
    new Promise((answer, fail) => void calls.push({ request, answer, fail }));
  return { calls, handler };
}

describe('rpc', (test) => {
  test('a call carries header and payload there and back, and says who called', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    let seen: RpcRequest | undefined;
    server.handle(Op.PUT, ['gateway'], (r) => {
      seen = r;
      return echo(r);
    });
    const connection = await world.dial(server.address);
    const reply = await connection.call(
      Op.PUT,
      Buffer.from('head'),
      [Buffer.from('pay'), Buffer.from('load')],
      700,
    );
    assert.is(reply.header.toString(), 'head');
    assert.is(reply.payload.toString(), 'payload');
    assert.equal([seen?.peer.role, seen?.peer.id, seen?.op], ['gateway', 'gateway-test', Op.PUT]);
    assert.is(seen!.deadlineAt - world.clock.monotonic(), 700);
    assert.is(connection.serverId, 'ds-1');
  });

  test('answers may come in any order', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const { calls, handler } = held();
    server.handle(Op.READ, ['gateway'], handler);
    const connection = await world.dial(server.address);
    const order: number[] = [];
    const replies = [0, 1, 2, 3].map(async (n) => {
      const reply = await connection.call(Op.READ, Buffer.from([n]));
      order.push(reply.header[0]!);
    });
    await turns(3);
    for (const i of [2, 0, 3, 1]) {
      calls[i]!.answer({ header: calls[i]!.request.header });
      await turns(3);
    }
    await Promise.all(replies);
    assert.equal(order, [2, 0, 3, 1]);
  });

  test('thousands in flight at once each get their own answer, in crumbs and whole', async (t) => {
    for (const cut of [
      undefined,
      (data: Buffer) => [data.subarray(0, 13), data.subarray(13, 1000), data.subarray(1000)],
    ]) {
      const world = new WireWorld(t, cut === undefined ? {} : { cut });
      const server = await world.serve();
      server.handle(Op.READ, ['gateway'], async (r) => {
        if ((r.header.readUInt32LE(0) & 3) === 0) await turn();
        return echo(r);
      });
      const connection = await world.dial(server.address);
      const calls = Array.from({ length: CALLS_IN_FLIGHT_PER_CONNECTION_MAX }, async (_, n) => {
        const header = Buffer.alloc(4);
        header.writeUInt32LE(n, 0);
        const reply = await connection.call(Op.READ, header, [Buffer.alloc(n % 300, n)]);
        assert.is(reply.header.readUInt32LE(0), n);
        assert.equal(reply.payload, Buffer.alloc(n % 300, n));
      });
      assert.is(connection.inFlight, calls.length);
      const refused = await failure(connection.call(Op.READ, EMPTY));
      assert.ok(isTfsError(refused, 'OVERLOADED'), String(refused));
      await Promise.all(calls);
      assert.is(connection.inFlight, 0);
    }
  });

  test('frames written in one turn travel together', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    server.handle(Op.READ, ['gateway'], echo);
    const connection = await world.dial(server.address);
    const link = world.net.links[0]!;
    const [before, back] = [link.server.arrivals, link.client.arrivals];
    await Promise.all(Array.from({ length: 50 }, () => connection.call(Op.READ, EMPTY)));
    assert.is(link.server.arrivals, before + 1);
    assert.is(link.client.arrivals, back + 1);
  });

  test('what a handler throws is what the caller catches', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    server.handle(Op.PUT, ['gateway'], async () => {
      throw new TfsError('RETRY_ELSEWHERE', 'ask another', { details: { avoid: [2, 3] }, retryAfterMs: 250 });
    });
    server.handle(Op.READ, ['gateway'], () => {
      throw new TypeError('a bug');
    });
    const connection = await world.dial(server.address);
    const known = await failure(connection.call(Op.PUT, EMPTY));
    assert.ok(isTfsError(known, 'RETRY_ELSEWHERE'));
    assert.is((known as TfsError).message, 'ask another');
    assert.equal((known as TfsError).details, { avoid: [2, 3] });
    assert.is((known as TfsError).retryAfterMs, 250);
    assert.is(world.log.lines.filter((line) => line.level === 'error').length, 0);
    const bug = await failure(connection.call(Op.READ, EMPTY));
    assert.ok(isTfsError(bug, 'INTERNAL'));
    assert.match((bug as TfsError).message, 'a bug');
    assert.is(world.log.lines.filter((line) => line.level === 'error').length, 1);
    assert.not(connection.closed);
  });

  test('an error with huge details still arrives', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    server.handle(Op.PUT, ['gateway'], () => {
      throw new TfsError('CONFLICT', 'x'.repeat(10_000_000), {
        details: { list: new Array(1_000_000).fill(1) },
      });
    });
    const connection = await world.dial(server.address);
    assert.ok(isTfsError(await failure(connection.call(Op.PUT, EMPTY)), 'CONFLICT'));
  });

  test('a role that an op does not allow is FORBIDDEN, an op nobody handles PROTOCOL', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    let ran = 0;
    server.handle(Op.FENCE, ['nameserver'], () => {
      ran++;
      return { header: EMPTY };
    });
    const gateway = await world.dial(server.address, 'gateway');
    const dataserver = await world.dial(server.address, 'dataserver');
    const nameserver = await world.dial(server.address, 'nameserver');
    for (const wrong of [gateway, dataserver])
      assert.ok(isTfsError(await failure(wrong.call(Op.FENCE, EMPTY)), 'FORBIDDEN'));
    assert.is(ran, 0);
    await nameserver.call(Op.FENCE, EMPTY);
    assert.is(ran, 1);
    for (const op of [Op.SEAL, 0, 255])
      assert.ok(isTfsError(await failure(nameserver.call(op, EMPTY)), 'PROTOCOL'), `op ${op}`);
    assert.throws(() => server.handle(Op.FENCE, [], echo), 'one handler');
  });

  test('PING is answered by every server to every role', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    for (const role of ['gateway', 'dataserver', 'nameserver'] as const)
      assert.is((await (await world.dial(server.address, role)).call(Op.PING, EMPTY)).payload.length, 0);
  });

  test('a client with the key of another cluster gets UNAUTHORIZED and no connection', async (t) => {
    const world = new WireWorld(t);
    const counts: number[] = [];
    const server = await world.serve((count) => counts.push(count));
    const other = Keyring.ofSecret(Buffer.alloc(32, 'another'));
    const error = await failure(world.dial(server.address, 'dataserver', other));
    assert.ok(isTfsError(error, 'UNAUTHORIZED'), String(error));
    await turns(5);
    assert.equal(counts, []);
    assert.ok(world.net.links.every((link) => link.server.closed));
  });

  test('a frame that does not parse closes its connection and harms nobody else', async (t) => {
    const world = new WireWorld(t);
    const counts: number[] = [];
    const server = await world.serve((count) => counts.push(count));
    const { calls, handler } = held();
    server.handle(Op.READ, ['gateway'], handler);
    const bad = await world.dial(server.address);
    const good = await world.dial(server.address);
    const lost = failure(bad.call(Op.READ, EMPTY));
    const kept = good.call(Op.READ, Buffer.from('kept'));
    await turns(3);
    world.net.links[0]!.client.write([Buffer.alloc(64, 0xff)]);
    assert.ok(isTfsError(await lost, 'CONNECTION_LOST'));
    assert.ok(bad.closed);
    // The call that had begun ends on the server without anyone to answer.
    calls[0]!.answer({ header: EMPTY });
    calls[1]!.answer({ header: Buffer.from('fine') });
    assert.is((await kept).header.toString(), 'fine');
    assert.equal(counts, [1, 2, 1]);
    assert.is(world.log.lines.filter((line) => /malformed/.test(line.message)).length, 1);
    await (await world.dial(server.address)).call(Op.PING, EMPTY);
  });

  test('damaged streams of every kind leave the server working', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    server.handle(Op.READ, ['gateway'], echo);
    const frame = Buffer.concat(
      encodeFrame({ kind: FrameKind.REQUEST, op: Op.READ, callId: 5, deadlineMs: 900 }, Buffer.from('head'), [
        Buffer.alloc(500, 1),
      ])!,
    );
    for (let at = 0; at < 20; at++) {
      const connection = await world.dial(server.address);
      const damaged = Buffer.from(frame);
      damaged[at]! ^= 0xa5;
      world.net.links.at(-1)!.client.write([damaged, frame]);
      await turns(4);
      connection.close();
    }
    await turns(3);
    assert.is(
      (await (await world.dial(server.address)).call(Op.READ, Buffer.from('x'))).header.toString(),
      'x',
    );
    assert.is(world.log.lines.filter((line) => line.level === 'error').length, 0);
  });

  test('a server that answers nonsense loses its connection, and every caller hears of it', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    server.handle(Op.READ, ['gateway'], held().handler);
    for (const nonsense of [
      Buffer.alloc(40, 0xee),
      Buffer.concat(
        encodeFrame({ kind: FrameKind.ERROR, op: 2, callId: 0, deadlineMs: 0 }, Buffer.from('{oops'), [])!,
      ),
      Buffer.concat(
        encodeFrame(
          { kind: FrameKind.ERROR, op: 2, callId: 0, deadlineMs: 0 },
          Buffer.from('{"code":1}'),
          [],
        )!,
      ),
    ]) {
      const connection = await world.dial(server.address);
      const calls = [connection.call(Op.READ, EMPTY), connection.call(Op.READ, EMPTY)].map(failure);
      await turns(3);
      world.net.links.at(-1)!.server.write([nonsense]);
      for (const error of await Promise.all(calls))
        assert.ok(isTfsError(error, 'CONNECTION_LOST'), String(error));
    }
  });

  test('an answer nobody waits for is dropped', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    server.handle(Op.READ, ['gateway'], echo);
    const connection = await world.dial(server.address);
    const stray = encodeFrame(
      { kind: FrameKind.REPLY, op: 2, callId: 77, deadlineMs: 0 },
      Buffer.from('stray'),
      [],
    )!;
    world.net.links[0]!.server.write(stray);
    await turns(3);
    assert.is((await connection.call(Op.READ, Buffer.from('mine'))).header.toString(), 'mine');
  });

  test('silence, slowness and strangers: whoever has not proved himself in time is cut off', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const silent = await world.net.connect(server.address, 100);
    const slow = await world.net.connect(server.address, 100);
    const stranger = await world.net.connect(server.address, 100);
    const closed: string[] = [];
    silent.onClose = () => void closed.push('silent');
    slow.onClose = () => void closed.push('slow');
    stranger.onClose = () => void closed.push('stranger');
    stranger.write([Buffer.from('GET / HTTP/1.1\r\n\r\n')]);
    await turns(4);
    assert.equal(closed, ['stranger']);
    const key = world.keyring.roleKey('gateway')!;
    const { hello } = new ClientHandshake({
      key,
      role: 'gateway',
      id: 'slow',
      nonce: Buffer.alloc(32),
      where: '',
    });
    const steps = 40;
    for (let i = 0; i < steps; i++) {
      slow.write([hello.subarray(i, i + 1)]);
      await world.pass(HANDSHAKE_MS_MAX / steps);
    }
    await turns(3);
    assert.equal(closed.sort(), ['silent', 'slow', 'stranger']);
    await (await world.dial(server.address)).call(Op.PING, EMPTY);
  });

  test('a crowd of silent connections keeps nobody out', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    for (let i = 0; i < HANDSHAKES_PER_SERVER_MAX + 10; i++) await world.net.connect(server.address, 100);
    await (await world.dial(server.address)).call(Op.PING, EMPTY);
    assert.is(world.net.links.filter((link) => !link.server.closed).length, HANDSHAKES_PER_SERVER_MAX);
  });

  test('a server that never answers the greeting is given up in time', async (t) => {
    const world = new WireWorld(t);
    const listener = await world.net.listen({ host: '127.0.0.1', port: 1 }, () => {});
    t.defer(() => listener.close());
    const dial = failure(world.dial({ host: '127.0.0.1', port: 1 }));
    await turns(3);
    await world.pass(1100);
    assert.ok(isTfsError(await dial, 'CONNECTION_LOST'));
    assert.ok(world.net.links[0]!.server.closed);
    assert.is(world.clock.pending, 0);
  });

  test('a server that closes during the greeting is CONNECTION_LOST', async (t) => {
    const world = new WireWorld(t);
    const listener = await world.net.listen({ host: '127.0.0.1', port: 1 }, (stream) => stream.destroy());
    t.defer(() => listener.close());
    const error = await failure(world.dial({ host: '127.0.0.1', port: 1 }));
    assert.ok(isTfsError(error, 'CONNECTION_LOST'), String(error));
  });

  test('a call without an answer ends at its deadline, each at its own, with one timer for all', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const { calls, handler } = held();
    server.handle(Op.READ, ['gateway'], handler);
    const connection = await world.dial(server.address);
    const timers = world.clock.pending;
    const ended: number[] = [];
    const waits = [400, 100, 900, 250].map((ms) =>
      failure(connection.call(Op.READ, EMPTY, [], ms)).then((error) => {
        assert.ok(isTfsError(error, 'DEADLINE'), String(error));
        ended.push(ms);
      }),
    );
    await turns(3);
    assert.is(world.clock.pending - timers, 1);
    assert.is(calls.length, 4);
    for (const [ms, want] of [
      [90, []],
      [40, [100]],
      [150, [100, 250]],
      [150, [100, 250, 400]],
    ] as const) {
      await world.pass(ms);
      assert.equal(ended, want);
    }
    await world.pass(500);
    assert.equal(ended, [100, 250, 400, 900]);
    await Promise.all(waits);
    assert.is(connection.inFlight, 0);
    for (const call of calls) call.answer({ header: Buffer.from('too late') });
    await turns(3);
    assert.not(connection.closed);
    const later = connection.call(Op.READ, EMPTY);
    await turns(3);
    calls[4]!.answer({ header: Buffer.from('in time') });
    assert.is((await later).header.toString(), 'in time');
  });

  test('a request that waited past its deadline on the server never runs', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const { calls, handler } = held();
    server.handle(Op.READ, ['gateway'], handler);
    let ran = 0;
    server.handle(Op.PUT, ['gateway'], () => {
      ran++;
      return { header: EMPTY };
    });
    const connection = await world.dial(server.address);
    const link = world.net.links[0]!;
    // Written past the client's own limit, as a rogue client would.
    const flood: Buffer[] = [];
    for (let i = 0; i < CALLS_IN_FLIGHT_PER_CONNECTION_MAX; i++)
      flood.push(
        ...encodeFrame({ kind: FrameKind.REQUEST, op: Op.READ, callId: i, deadlineMs: 60_000 }, EMPTY, [])!,
      );
    for (const deadlineMs of [0, 50, 60_000])
      flood.push(...encodeFrame({ kind: FrameKind.REQUEST, op: Op.PUT, callId: 1, deadlineMs }, EMPTY, [])!);
    link.client.write(flood);
    await turns(5);
    assert.is(calls.length, CALLS_IN_FLIGHT_PER_CONNECTION_MAX);
    assert.is(ran, 0);
    assert.ok(link.server.paused);
    await world.pass(100);
    for (const call of calls) call.answer({ header: EMPTY });
    await turns(5);
    assert.is(ran, 1);
    assert.not(link.server.paused);
    assert.not(connection.closed);
  });

  test('a client that does not take its answers is not read from until it does', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const big = Buffer.alloc(CONNECTION_OUT_BYTES_MAX / 4 - 100);
    let ran = 0;
    server.handle(Op.READ, ['gateway'], () => {
      ran++;
      return { header: EMPTY, payload: [big] };
    });
    const connection = await world.dial(server.address);
    const link = world.net.links[0]!;
    link.client.pause();
    let arrived = 0;
    const calls = Array.from({ length: 12 }, async () => {
      await connection.call(Op.READ, EMPTY);
      arrived++;
    });
    await turns(6);
    assert.is(ran, 5);
    assert.ok(link.server.paused);
    assert.is(arrived, 0);
    link.client.resume();
    await Promise.all(calls);
    assert.equal([ran, arrived], [12, 12]);
  });

  test('a client whose server does not read is told OVERLOADED instead of queueing without end', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    server.handle(Op.PUT, ['gateway'], () => ({ header: EMPTY }));
    const connection = await world.dial(server.address);
    const link = world.net.links[0]!;
    link.server.pause();
    const payload = [Buffer.alloc(CONNECTION_OUT_BYTES_MAX / 4 - 100)];
    const calls = Array.from({ length: 5 }, () => connection.call(Op.PUT, EMPTY, payload));
    const refused = await failure(connection.call(Op.PUT, EMPTY, payload));
    assert.ok(isTfsError(refused, 'OVERLOADED'), String(refused));
    link.server.resume();
    await Promise.all(calls);
    await connection.call(Op.PUT, EMPTY, payload);
  });

  test('a call or an answer larger than a frame is refused, and the connection lives on', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const huge = new Array(3).fill(Buffer.allocUnsafe(32 << 20)) as Buffer[];
    server.handle(Op.READ, ['gateway'], () => ({ header: EMPTY, payload: huge }));
    const connection = await world.dial(server.address);
    assert.ok(isTfsError(await failure(connection.call(Op.READ, EMPTY, huge)), 'TOO_LARGE'));
    assert.ok(isTfsError(await failure(connection.call(Op.READ, EMPTY)), 'INTERNAL'));
    await connection.call(Op.PING, EMPTY);
    assert.is(connection.inFlight, 0);
  });

  test('a connection that breaks rejects everything in flight, at once, and tells its listeners once', async (t) => {
    const world = new WireWorld(t);
    const counts: number[] = [];
    const server = await world.serve((count) => counts.push(count));
    server.handle(Op.READ, ['gateway'], held().handler);
    const connection = await world.dial(server.address);
    let told = 0;
    connection.onClose(() => told++);
    const calls = Array.from({ length: 100 }, () => failure(connection.call(Op.READ, EMPTY)));
    await turns(3);
    world.net.links[0]!.cut();
    for (const error of await Promise.all(calls))
      assert.ok(isTfsError(error, 'CONNECTION_LOST'), String(error));
    assert.ok(connection.closed);
    assert.ok(isTfsError(await failure(connection.call(Op.READ, EMPTY)), 'CONNECTION_LOST'));
    connection.onClose(() => told++);
    assert.is(told, 2);
    await turns(3);
    assert.equal(counts, [1, 0]);
  });

  test('closing rejects what is in flight with CLOSED, and the server forgets the connection', async (t) => {
    const world = new WireWorld(t);
    const counts: number[] = [];
    const server = await world.serve((count) => counts.push(count));
    server.handle(Op.READ, ['gateway'], held().handler);
    const connection = await world.dial(server.address);
    const call = failure(connection.call(Op.READ, EMPTY));
    await turns(3);
    connection.close();
    connection.close();
    assert.ok(isTfsError(await call, 'CLOSED'));
    assert.ok(isTfsError(await failure(connection.call(Op.READ, EMPTY)), 'CLOSED'));
    await turns(3);
    assert.equal(counts, [1, 0]);
  });

  test('a peer that lost its power is found by its silence', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    server.handle(Op.READ, ['gateway'], held().handler);
    const connection = await world.dial(server.address);
    world.net.links[0]!.frozen = true;
    const short = failure(connection.call(Op.READ, EMPTY, [], 100));
    const long = failure(connection.call(Op.READ, EMPTY, [], 60_000));
    await world.pass(150);
    assert.ok(isTfsError(await short, 'DEADLINE'));
    assert.not(connection.closed);
    await world.pass(PROBE_MS_MAX + 50);
    assert.ok(connection.closed);
    assert.ok(isTfsError(await long, 'CONNECTION_LOST'));
    world.net.links[0]!.frozen = false;
    world.net.links[0]!.cut();
  });

  test('a peer that is only slow is not given up', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const { calls, handler } = held();
    server.handle(Op.READ, ['gateway'], handler);
    const connection = await world.dial(server.address);
    const short = failure(connection.call(Op.READ, EMPTY, [], 100));
    const long = connection.call(Op.READ, EMPTY, [], 60_000);
    await world.pass(150);
    assert.ok(isTfsError(await short, 'DEADLINE'));
    await world.pass(PROBE_MS_MAX * 3);
    assert.not(connection.closed);
    calls[1]!.answer({ header: Buffer.from('at last') });
    assert.is((await long).header.toString(), 'at last');
  });

  test('drain finishes what has begun, takes nothing new, and close ends the rest', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    const { calls, handler } = held();
    server.handle(Op.READ, ['gateway'], handler);
    const connection = await world.dial(server.address);
    const begun = connection.call(Op.READ, EMPTY);
    await turns(3);
    let drained = false;
    const draining = server.drain().then(() => {
      drained = true;
    });
    assert.ok(isTfsError(await failure(connection.call(Op.READ, EMPTY)), 'CLOSED'));
    assert.ok(isTfsError(await failure(world.dial(server.address)), 'CONNECTION_LOST'));
    await connection.call(Op.PING, EMPTY);
    assert.not(drained);
    calls[0]!.answer({ header: Buffer.from('done') });
    await draining;
    assert.is((await begun).header.toString(), 'done');
    await world.close(server);
    await turns(3);
    assert.ok(connection.closed);
    assert.is(calls.length, 1);
  });

  test('close does not wait for a client that is gone, nor for a handler that hangs', async (t) => {
    const world = new WireWorld(t);
    const server = await world.serve();
    server.handle(Op.READ, ['gateway'], held().handler);
    const hanging = await world.dial(server.address);
    const gone = await world.dial(server.address);
    const call = failure(hanging.call(Op.READ, EMPTY));
    await turns(3);
    world.net.links[1]!.frozen = true;
    await world.close(server);
    assert.ok(isTfsError(await call, 'CONNECTION_LOST'));
    assert.not(gone.closed);
  });
});
