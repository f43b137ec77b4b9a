import { randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import { isPrivate } from '../../../client/gateway/media.ts';
import { AUTH, FakeGateway, png } from '../../kit/fake-gateway.ts';
import { describe } from '../../kit/suite.ts';

const picture = () => png(randomBytes(16));

describe('private pictures over HTTP', (test) => {
  for (const [what, path] of [
    ['private=1', '/images?private=1'],
    ['private=true', '/images?private=true&suffix=.png'],
    ['the suffix that TFS has for it', '/images?suffix=.tfsprivate.png'],
    ['that suffix without an ending', '/images?suffix=.tfsprivate'],
    ['both', '/images?suffix=.tfsprivate.png&private=0'],
  ] as const)
    test(`are asked for by ${what}`, async (t) => {
      const gw = await FakeGateway.open(t);
      const reply = await gw.post(picture(), { path });
      assert.is(reply.status, 201);
      assert.is(reply.json['private'], true);
      const name = String(reply.json['name']);
      const { mediaType } = await gw.client.stat(name);
      assert.is(isPrivate(mediaType), true);
      assert.is(reply.json['mediaType'], 'image/png');
      const metadata = await gw.get(`/images/${name}/metadata`, AUTH);
      assert.is(metadata.status, 200);
      assert.is(metadata.json['private'], true);
      assert.is(metadata.json['mediaType'], 'image/png');
      const unknown = await gw.get(`/images/${name}/metadata`);
      assert.is(unknown.status, 403);
      assert.is(unknown.json['code'], 'FORBIDDEN');
    });

  for (const path of [
    '/images',
    '/images?private=0',
    '/images?private=false',
    '/images?suffix=.tfsprivately',
  ])
    test(`are not what ${path} stores`, async (t) => {
      const gw = await FakeGateway.open(t);
      const reply = await gw.post(picture(), { path });
      assert.is(reply.status, 201);
      assert.is('private' in reply.json, false);
      const name = String(reply.json['name']);
      assert.is(isPrivate((await gw.client.stat(name)).mediaType), false);
      const metadata = await gw.get(`/images/${name}/metadata`);
      assert.is(metadata.status, 200);
      assert.is('private' in metadata.json, false);
    });

  for (const query of ['private=yes', 'private=', 'private=1&private=0', 'private=1&private=1'])
    test(`${query} is refused, and nothing stored`, async (t) => {
      const gw = await FakeGateway.open(t);
      const body = picture();
      const reply = await gw.post(body, { path: `/images?${query}` });
      assert.is(reply.status, 400);
      assert.match(String(reply.json['message']), 'private is 1 or 0');
      assert.is((await gw.post(body)).json['deduplicated'], false);
    });

  test('one key of a client leads to one picture of each kind', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = picture();
    const headers = { 'idempotency-key': 'the same' };
    const names = [];
    for (const path of ['/images', '/images?private=1', '/images', '/images?private=1'])
      names.push((await gw.post(body, { path, headers })).json['name']);
    assert.is(names[0], names[2]);
    assert.is(names[1], names[3]);
    assert.is.not(names[0], names[1]);
  });
});
