import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { isTfsError } from '../../../common/errors.ts';
import { ClientHandshake, ServerHandshake, type Step } from '../../../common/wire/handshake.ts';
import { Keyring, type Role } from '../../../common/wire/keys.ts';
import { describe } from '../../kit/suite.ts';
import { SECRET } from '../../kit/wire-world.ts';

const ring = Keyring.ofSecret(SECRET);
const other = Keyring.ofSecret(Buffer.alloc(32, 'another cluster'));
const nonce = (fill: string) => Buffer.alloc(32, fill);

const client = (keyring: Keyring = ring, role: Role = 'gateway', seed = 'c') =>
  new ClientHandshake({ key: keyring.roleKey(role)!, role, id: 'gw-1', nonce: nonce(seed), where: 'ds:1' });
const server = (keyring: Keyring = ring, seed = 's', busy = false) =>
  new ServerHandshake({ keyring, id: 'ds-1', nonce: nonce(seed), busy });

/** Carries bytes between the two until neither has more to say. */
function run(c: ClientHandshake, s: ServerHandshake): { client: Step; server: Step } {
  let toServer: Buffer | undefined = c.hello;
  let last: { client: Step; server: Step } = { client: {}, server: {} };
  while (toServer !== undefined) {
    const server = s.push(toServer);
    const client: Step = server.send === undefined ? {} : c.push(server.send);
    toServer = client.send;
    last = { client: { ...last.client, ...client }, server: { ...last.server, ...server } };
  }
  return last;
}

describe('handshake', (test) => {
  test('both sides learn whom they speak to', () => {
    const c = client();
    const both = run(c, server());
    assert.equal([both.server.done?.role, both.server.done?.id], ['gateway', 'gw-1']);
    assert.ok(both.client.done);
    assert.is(c.serverId, 'ds-1');
  });

  test('it succeeds wherever its bytes are cut, and hands on what came behind it', () => {
    const pushed = (shake: { push(data: Buffer): Step }, data: Buffer, at: number): Step => {
      const first = data.subarray(0, at % (data.length + 1));
      const step = first.length > 0 ? shake.push(first) : {};
      const rest = data.subarray(first.length);
      return rest.length > 0 ? { ...step, ...shake.push(rest) } : step;
    };
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.nat(), (a, b, c) => {
        const [cl, se] = [client(), server()];
        const answer = pushed(se, cl.hello, a);
        const proof = pushed(cl, answer.send!, b);
        const verdict = pushed(se, Buffer.concat([proof.send!]), c);
        assert.is(verdict.done?.id, 'gw-1');
        const done = cl.push(Buffer.concat([verdict.send!, Buffer.from('frames')]));
        assert.is(done.done?.rest.toString(), 'frames');
      }),
    );
  });

  test('a server with another secret is refused by the client before it proves anything', () => {
    const both = run(client(), server(other));
    assert.ok(isTfsError(both.client.failed, 'UNAUTHORIZED'), String(both.client.failed));
    assert.is(both.client.send, undefined);
    assert.is(both.server.done, undefined);
  });

  test('a client with another secret that does not check the server is refused by it', () => {
    const s = server();
    const c = client(other);
    assert.is(s.push(c.hello).failed, undefined);
    const step = s.push(Buffer.alloc(32, 1));
    assert.ok(isTfsError(step.failed, 'UNAUTHORIZED'), String(step.failed));
    assert.is(step.done, undefined);
    assert.equal(step.send, Buffer.from([2]));
  });

  test('a gateway cannot speak as a NameServer', () => {
    const gateway = Keyring.ofExport(ring.exportRole('gateway'));
    const forged = new ClientHandshake({
      key: gateway.roleKey('gateway')!,
      role: 'nameserver',
      id: 'ns-0',
      nonce: nonce('x'),
      where: 'ds:1',
    });
    const s = server();
    const answer = s.push(forged.hello);
    assert.ok(isTfsError(forged.push(answer.send!).failed, 'UNAUTHORIZED'));
    assert.ok(isTfsError(s.push(Buffer.alloc(32)).failed, 'UNAUTHORIZED'));
  });

  test('a recorded handshake is worthless to one who replays it', () => {
    const c = client();
    const first = server(ring, 'one');
    const proof = c.push(first.push(c.hello).send!).send!;
    assert.ok(first.push(proof).done);
    const second = server(ring, 'two');
    second.push(c.hello);
    const step = second.push(proof);
    assert.ok(isTfsError(step.failed, 'UNAUTHORIZED'));
    assert.is(step.done, undefined);
  });

  test('a client is not answered with its own words', () => {
    const c = client();
    assert.ok(c.push(c.hello).failed !== undefined || c.push(Buffer.alloc(200)).failed !== undefined);
    assert.throws(() => c.serverId, 'the server has answered');
  });

  test('a server that claims not to know the key, or to be busy, is named in the error', () => {
    const gatewayOnly = Keyring.ofExport(ring.exportRole('gateway'));
    const unknown = run(client(ring, 'nameserver'), server(gatewayOnly));
    assert.ok(isTfsError(unknown.client.failed, 'UNAUTHORIZED'));
    assert.match(String(unknown.client.failed), 'ds:1');
    const busy = run(client(), server(ring, 's', true));
    assert.ok(isTfsError(busy.client.failed, 'OVERLOADED'));
    assert.ok(isTfsError(busy.server.failed, 'OVERLOADED'));
  });

  test('another version on either side is said in so many words', () => {
    const hello = client().hello;
    hello.writeUInt16LE(2, 4);
    const step = server().push(hello);
    assert.match(String(step.failed), 'version 2');
    assert.ok(step.send);
    const c = client();
    const answer = server().push(c.hello).send!;
    answer.writeUInt16LE(9, 4);
    const failed = c.push(answer).failed;
    assert.ok(isTfsError(failed, 'PROTOCOL'));
    assert.match(String(failed), 'version 9');
    assert.match(String(failed), 'one release');
  });

  test('a stray HTTP request is known by its first bytes', () => {
    assert.ok(isTfsError(server().push(Buffer.from('GE')).failed, 'PROTOCOL'));
    assert.ok(isTfsError(client().push(Buffer.from('HTTP/1.1 400 Bad Request\r\n')).failed, 'PROTOCOL'));
  });

  test('no flipped bit in any message gets anyone in', () => {
    const reference = () => {
      const c = client();
      const s = server();
      return { c, s, answer: () => s.push(c.hello).send! };
    };
    const hello = client().hello;
    for (let bit = 0; bit < hello.length * 8; bit++) {
      const { c, s } = reference();
      const damaged = Buffer.from(c.hello);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      const answer = s.push(damaged);
      // A longer id makes the server wait for it; then nothing was let in either.
      const step = answer.send === undefined ? answer : c.push(answer.send);
      assert.is(step.send === undefined ? step.done : s.push(step.send).done, undefined, `hello bit ${bit}`);
    }
    const answerBits = reference().answer().length * 8;
    for (let bit = 0; bit < answerBits; bit++) {
      const { c, answer } = reference();
      const damaged = Buffer.from(answer());
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      assert.is(c.push(damaged).send, undefined, `answer bit ${bit}`);
    }
    for (let bit = 0; bit < 256; bit++) {
      const { c, s, answer } = reference();
      const proof = Buffer.from(c.push(answer()).send!);
      proof[bit >> 3]! ^= 1 << (bit & 7);
      assert.ok(s.push(proof).failed, `proof bit ${bit}`);
    }
  });

  test('random bytes never throw and never get in', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 120 }), { maxLength: 4 }),
        fc.boolean(),
        (chunks, magic) => {
          const s = server();
          const c = client();
          for (const chunk of [
            ...(magic ? [Buffer.from('TFSW')] : []),
            ...chunks.map((x) => Buffer.from(x)),
          ]) {
            const step = s.push(chunk);
            assert.is(step.done, undefined);
            if (step.failed !== undefined) break;
          }
          for (const chunk of [
            ...(magic ? [Buffer.from('TFSW')] : []),
            ...chunks.map((x) => Buffer.from(x)),
          ]) {
            const step = c.push(chunk);
            assert.is(step.done, undefined);
            if (step.failed !== undefined) break;
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  test('an id that would garble a log is refused', () => {
    assert.throws(
      () =>
        new ClientHandshake({
          key: Buffer.alloc(32),
          role: 'gateway',
          id: 'a\nb',
          nonce: nonce('n'),
          where: '',
        }),
      /cannot be an id/,
    );
  });
});
