import { randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import type { TfsClient } from '../../../client/client.ts';
import { Tokens } from '../../../client/gateway/auth.ts';
import { dispositionOf } from '../../../client/gateway/conditions.ts';
import { HotPictures } from '../../../client/gateway/hot-pictures.ts';
import { mutationOpId, putOpId } from '../../../client/gateway/op-id.ts';
import { UploadGate } from '../../../client/gateway/upload-gate.ts';
import { isTfsError, type TfsError } from '../../../common/errors.ts';
import { tokenOf } from '../../../common/secrets.ts';
import { Mutation } from '../../../common/wire/messages.ts';
import { TEST_RULES } from '../../kit/fake-gateway.ts';
import { ManualClock } from '../../kit/manual-clock.ts';
import { describe } from '../../kit/suite.ts';

const code = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (isTfsError(error)) return error.code;
    throw error;
  }
  return 'OK';
};

describe('tokens', (test) => {
  const [a, b] = [tokenOf('first-token-of-this-test'), tokenOf('second-token-of-this-test')];
  const tokens = new Tokens([a, b]);
  const bearer = (text: string) => ({ authorization: `Bearer ${text}` });

  test('each known one is told by its id', () => {
    assert.is(tokens.require(bearer(a.text)).id, a.id);
    assert.is(tokens.require({ authorization: `bearer  ${b.text}` }).id, b.id);
    assert.is(tokens.optional({}), undefined);
  });

  test('all others are refused, also where a token is optional', () => {
    for (const text of [
      '',
      'x',
      a.text.slice(1),
      `${a.text}x`,
      a.text.toUpperCase(),
      `${a.text} ${b.text}`,
    ]) {
      assert.is(
        code(() => tokens.require(bearer(text))),
        'UNAUTHORIZED',
        text,
      );
      assert.is(
        code(() => tokens.optional(bearer(text))),
        'UNAUTHORIZED',
        text,
      );
    }
    assert.is(
      code(() => tokens.require({})),
      'UNAUTHORIZED',
    );
    assert.is(
      code(() => new Tokens([]).require(bearer(a.text))),
      'UNAUTHORIZED',
    );
  });

  test('an appkey is no bearer token, and a bearer token no appkey', () => {
    const appkey = tokenOf('appkey-of-this-test', { kind: 'appkey', name: 'old' });
    const both = new Tokens([a, appkey]);
    assert.is(both.ofAppkey(appkey.text)?.name, 'old');
    assert.is(both.require(bearer(a.text)).id, a.id);
    for (const text of [a.text, '', `${appkey.text}x`, appkey.text.toUpperCase()])
      assert.is(both.ofAppkey(text), undefined);
    assert.is(
      code(() => both.require(bearer(appkey.text))),
      'UNAUTHORIZED',
    );
  });
});

describe('operation ids', (test) => {
  const token = tokenOf('a-token-of-this-test');
  const sha1 = randomBytes(20);

  test('differ in every part of their scope', () => {
    const ids = [
      putOpId(token, 'k', 0, sha1),
      putOpId(token, 'k', 1, sha1),
      putOpId(token, 'k', 0, sha1, true),
      putOpId(token, 'l', 0, sha1),
      putOpId(token, 'k', 0, randomBytes(20)),
      putOpId(tokenOf('another-token-of-this-test'), 'k', 0, sha1),
    ].map((id) => id.toString('hex'));
    assert.is(new Set(ids).size, ids.length);
    for (const id of ids) assert.is(id.length, 32);
    assert.is(putOpId(token, 'k', 0, sha1).toString('hex'), ids[0]);
  });

  test('of commands differ by command and name', () => {
    const key = { block: 65_537, fileId: 3, cookie: 4 } as Parameters<typeof mutationOpId>[3];
    const other = { ...key, fileId: 4 } as typeof key;
    const ids = [
      mutationOpId(token, 'k', Mutation.DELETE, key),
      mutationOpId(token, 'k', Mutation.UNDELETE, key),
      mutationOpId(token, 'k', Mutation.DELETE, other),
    ].map((id) => id.toString('hex'));
    assert.is(new Set(ids).size, 3);
  });
});

describe('upload gate', (test) => {
  test('bytes are reserved when declared, counted when not, and given back', () => {
    const clock = new ManualClock();
    const gate = UploadGate.open({ clock, bytesInFlightMax: 100 });
    const slow = () => assert.unreachable('nothing is slow');
    const declared = gate.begin(60, slow);
    assert.is(
      code(() => gate.begin(50, slow)),
      'OVERLOADED',
    );
    const streamed = gate.begin(0, slow);
    streamed.arrived(40);
    assert.is(
      code(() => streamed.arrived(1)),
      'OVERLOADED',
    );
    declared.arrived(60);
    assert.is(gate.bytesInFlight, 100);
    streamed.release();
    declared.release();
    assert.is(gate.bytesInFlight, 0);
    gate.close();
    assert.is(clock.pending, 0);
  });

  test('an upload that stops or crawls is given up once; one that is complete may take its time', () => {
    const clock = new ManualClock();
    const gate = UploadGate.open({ clock, idleMsMax: 1000, rateGraceMs: 5000, bytesPerSecondMin: 100 });
    const slow: string[] = [];
    const note = (who: string) => (error: TfsError) => void slow.push(`${who} ${error.code}`);
    const stopped = gate.begin(1000, note('stopped'));
    const crawling = gate.begin(1000, note('crawling'));
    const steady = gate.begin(100_000, note('steady'));
    const done = gate.begin(10, note('done'));
    done.arrived(10);
    done.complete();
    stopped.arrived(500);
    for (let i = 0; i < 40; i++) {
      crawling.arrived(1);
      steady.arrived(100);
      clock.advance(250);
    }
    assert.equal(slow, ['stopped BODY_TIMEOUT', 'crawling BODY_TIMEOUT']);
    gate.close();
  });
});

describe('dispositions', (test) => {
  const validators = { etag: '"e"', lastModified: 'Thu, 01 Jan 2026 00:00:00 GMT', size: 10 };
  const of = (headers: Record<string, string>, method = 'GET') =>
    dispositionOf(method, headers, validators).kind;

  test('a precondition is looked at before a range', () => {
    assert.is(of({ 'if-none-match': '"e"', range: 'bytes=0-1' }), 'not-modified');
    assert.is(of({ 'if-none-match': '"x"', range: 'bytes=0-1' }), 'part');
    assert.is(of({ 'if-none-match': '"x"', range: 'bytes=90-' }), 'unsatisfiable');
    assert.is(of({ range: 'bytes=0-1' }, 'HEAD'), 'whole');
    assert.is(of({ 'if-none-match': '"e"', 'cache-control': 'no-cache' }), 'whole');
    assert.is(of({ range: `bytes=0-${'9'.repeat(400)}` }), 'part');
    assert.is(of({ range: `bytes=${'9'.repeat(400)}-` }), 'unsatisfiable');
  });
});

describe('hot pictures', (test) => {
  test('an answer that was under way when the picture was deleted is not kept', async () => {
    let resolve: (picture: unknown) => void = () => undefined;
    const client = {
      get: () =>
        new Promise((yes) => {
          resolve = yes;
        }),
    } as unknown as TfsClient;
    const hot = new HotPictures(client, new ManualClock(), TEST_RULES, 1 << 20);
    const key = { block: 1, fileId: 2, cookie: 3 } as Parameters<HotPictures['load']>[1];
    const facts = {
      sha1: randomBytes(20),
      size: 3,
      mtimeMs: 0,
      mediaType: 1,
      suffixHash: 0,
      provisional: false,
    };
    const picture = { facts, first: Buffer.from('abc'), isWhole: true };
    const first = hot.load('name', key);
    hot.forget('name');
    resolve(picture);
    await first;
    assert.is(hot.get('name'), undefined);
    const second = hot.load('name', key);
    resolve(picture);
    await second;
    assert.is(hot.get('name')?.payload.toString(), 'abc');
    assert.is(hot.count, 1);
  });

  test('a provisional answer and a large picture are not kept', async () => {
    const facts = {
      sha1: randomBytes(20),
      size: 3,
      mtimeMs: 0,
      mediaType: 1,
      suffixHash: 0,
      provisional: true,
    };
    const pictures = [
      { facts, first: Buffer.from('abc'), isWhole: true },
      { facts: { ...facts, provisional: false }, first: Buffer.from('ab'), isWhole: false },
    ];
    const client = { get: async () => pictures.shift() } as unknown as TfsClient;
    const hot = new HotPictures(client, new ManualClock(), TEST_RULES, 1 << 20);
    const key = { block: 1, fileId: 2, cookie: 3 } as Parameters<HotPictures['load']>[1];
    for (const name of ['a', 'b']) {
      await hot.load(name, key);
      assert.is(hot.get(name), undefined);
    }
  });
});
