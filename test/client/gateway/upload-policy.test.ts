import { randomBytes } from 'node:crypto';
import sharp from 'sharp';
import { FormData } from 'undici';
import * as assert from 'uvu/assert';
import { UNLIMITED, type UploadPolicy, type UploadType } from '../../../common/config-uploads.ts';
import { TfsError } from '../../../common/errors.ts';
import { tokenOf } from '../../../common/secrets.ts';
import { Op } from '../../../common/wire/messages.ts';
import { FakeGateway, type HttpReply, png, TEST_TOKEN } from '../../kit/fake-gateway.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const TEXT = 'a-token-with-a-policy-of-its-own';
const HEADERS = { authorization: `Bearer ${TEXT}` };
const picture = (size = 0) => png(randomBytes(16), size);
const jpeg = () =>
  sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } })
    .jpeg()
    .toBuffer();

function open(t: TestContext, policy: Partial<UploadPolicy>): Promise<FakeGateway> {
  const token = tokenOf(TEXT, { name: 'client', policy: { ...UNLIMITED, name: 'narrow', ...policy } });
  return FakeGateway.open(t, { tokens: [TEST_TOKEN, token] });
}

const post = (gw: FakeGateway, body: Buffer, headers: Record<string, string> = {}): Promise<HttpReply> =>
  gw.http('POST', '/images', { headers: { ...HEADERS, ...headers }, body });

function postForm(gw: FakeGateway, ...files: readonly Buffer[]): Promise<HttpReply> {
  const body = new FormData();
  for (const [i, file] of files.entries())
    body.append('image', new Blob([new Uint8Array(file)]), `p${i}.png`);
  return gw.http('POST', '/images', { headers: HEADERS, body });
}

const refusal = () => new TfsError('TOO_LARGE', 'it does not fit');

const parts = (reply: HttpReply): (string | undefined)[] =>
  (JSON.parse(reply.body.toString()) as { code?: string }[]).map(({ code }) => code);

const puts = (gw: FakeGateway) => gw.cluster.servers.reduce((sum, server) => sum + server.count(Op.PUT), 0);

describe('upload policies', (test) => {
  test('types: what is not allowed is 415, with what is', async (t) => {
    const gw = await open(t, { types: new Set<UploadType>(['jpeg', 'webp']) });
    const refused = await post(gw, picture());
    assert.is(refused.status, 415);
    assert.is(refused.json['code'], 'UNSUPPORTED_MEDIA');
    assert.match(
      String(refused.json['message']),
      'of the kind png, and the policy "narrow" of this token allows only jpeg, webp',
    );
    assert.is(puts(gw), 0);
    assert.is((await post(gw, await jpeg())).status, 201);
    // Others are not bound by it.
    assert.is((await gw.post(picture())).status, 201);
    const form = await postForm(gw, await jpeg(), picture());
    assert.is(form.status, 207);
    assert.equal(parts(form), [undefined, 'UNSUPPORTED_MEDIA']);
  });

  test('types hold where the gateway takes anything', async (t) => {
    const token = tokenOf(TEXT, { policy: { ...UNLIMITED, types: new Set<UploadType>(['png']) } });
    const gw = await FakeGateway.open(t, { tokens: [TEST_TOKEN, token], anyType: true });
    assert.is((await post(gw, Buffer.from('no picture at all'))).status, 415);
    assert.is((await gw.post(Buffer.from('no picture at all'))).status, 201);
  });

  test('size: told before the body is sent, where its length is declared', async (t) => {
    const gw = await open(t, { maxBytes: 5000 });
    const declared = await gw.raw([
      'POST /images HTTP/1.1\r\nHost: x\r\nContent-Length: 5001\r\n',
      `Authorization: Bearer ${TEXT}\r\nExpect: 100-continue\r\n\r\n`,
    ]);
    assert.match(declared, /^HTTP\/1.1 413 /);
    assert.match(declared, 'at most 5000 bytes');
    assert.is((await post(gw, picture(5000))).status, 201);
    assert.is((await post(gw, picture(5001))).status, 413);
    async function* endless() {
      for (let i = 0; i < 100; i++) yield picture(1000);
    }
    const chunked = await gw.http('POST', '/images', { headers: HEADERS, body: endless() });
    assert.is(chunked.status, 413);
    const form = await postForm(gw, picture(5001));
    assert.is(form.status, 413);
    assert.is((await gw.post(picture(5001))).status, 201);
  });

  test('rate: 429 with the time to wait, before the body is read', async (t) => {
    const gw = await open(t, { rate: { perSecond: 0.1, burst: 2 } });
    assert.is((await post(gw, picture())).status, 201);
    assert.is((await post(gw, picture())).status, 201);
    const refused = await post(gw, picture());
    assert.is(refused.status, 429);
    assert.is(refused.json['code'], 'RATE_LIMITED');
    const seconds = Number(refused.headers['retry-after']);
    assert.ok(seconds >= 1 && seconds <= 20, String(seconds));
    const early = await gw.raw([
      'POST /images HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n',
      `Authorization: Bearer ${TEXT}\r\nExpect: 100-continue\r\n\r\n`,
    ]);
    assert.match(early, /^HTTP\/1.1 429 /);
    assert.is((await gw.post(picture())).status, 201);
  });

  test('rate: each file of a form counts', async (t) => {
    const gw = await open(t, { rate: { perSecond: 0.1, burst: 3 } });
    const form = await postForm(gw, picture(), picture(), picture(), picture());
    assert.is(form.status, 207);
    assert.equal(parts(form).filter((code) => code === 'RATE_LIMITED').length, 1);
    assert.is(puts(gw), 3);
  });

  test('quota: 429 until the period ends; what was not stored does not count', async (t) => {
    const gw = await open(t, { quota: { bytes: 10_000, period: 'day' } });
    const first = picture(4000);
    const key = { 'idempotency-key': 'k' };
    assert.is((await post(gw, first, key)).status, 201);
    // The same request again is the same picture; the same bytes in another request count again.
    assert.is((await post(gw, first, key)).status, 201);
    const refused = await post(gw, picture(6001));
    assert.is(refused.status, 429);
    assert.is(refused.json['code'], 'QUOTA_EXCEEDED');
    assert.match(String(refused.json['message']), '10000 bytes');
    assert.ok(Number(refused.headers['retry-after']) >= 1);
    assert.is((await post(gw, Buffer.concat([Buffer.from('no picture'), randomBytes(5000)]))).status, 415);
    assert.is((await post(gw, first)).json['deduplicated'], true);
    assert.is((await post(gw, picture(2000))).status, 201);
    assert.is((await post(gw, picture(100))).status, 429);
    const form = await postForm(gw, picture(100));
    assert.is(form.status, 429);
  });

  test('quota: bytes that could not be stored are given back', async (t) => {
    const gw = await open(t, { quota: { bytes: 10_000, period: 'month' } });
    const big = picture(9000);
    for (const server of gw.cluster.servers) server.refusePut = refusal();
    assert.is((await post(gw, big)).status, 413);
    for (const server of gw.cluster.servers) server.refusePut = undefined;
    assert.is((await post(gw, big)).status, 201);
  });

  test('actions: what the policy leaves out is 403', async (t) => {
    const gw = await open(t, { actions: new Set(['upload'] as const) });
    const name = String((await post(gw, picture())).json['name']);
    for (const [method, path] of [
      ['DELETE', `/images/${name}`],
      ['POST', `/images/${name}/undelete`],
      ['POST', `/images/${name}/hide`],
      ['POST', `/images/${name}/reveal`],
    ] as const) {
      const reply = await gw.http(method, path, { headers: HEADERS });
      assert.is(reply.status, 403, path);
      assert.match(String(reply.json['message']), 'the policy "narrow"');
    }
    assert.is((await gw.get(`/images/${name}`)).status, 200);
    const other = await open(t, { actions: new Set(['delete', 'hide'] as const) });
    assert.is((await post(other, picture())).status, 403);
    const theirs = await other.store(picture());
    for (const act of ['hide', 'reveal'])
      assert.is((await other.http('POST', `/images/${theirs}/${act}`, { headers: HEADERS })).status, 204);
    assert.is((await other.http('DELETE', `/images/${theirs}`, { headers: HEADERS })).status, 204);
  });

  test('an appkey is no bearer token', async (t) => {
    const gw = await FakeGateway.open(t, { tokens: [tokenOf(TEXT, { kind: 'appkey' })] });
    assert.is((await post(gw, picture())).status, 401);
  });
});
