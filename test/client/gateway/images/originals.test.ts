import { randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import { Originals } from '../../../../client/gateway/images/originals.ts';
import { nodeClock } from '../../../../common/adapters/node-clock.ts';
import { isTfsError } from '../../../../common/errors.ts';
import { Op } from '../../../../common/wire/messages.ts';
import { FakeGateway, png } from '../../../kit/fake-gateway.ts';
import { describe } from '../../../kit/suite.ts';

describe('what is known of originals', (test) => {
  test('a picture that is deleted while its rendition is made is not shown, however short a time ago it was vouched for', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(png(randomBytes(16)));
    const key = gw.client.parse(name);
    const gone: string[] = [];
    const originals = new Originals(gw.client, nodeClock, (one) => gone.push(one));
    const checks = () => gw.cluster.servers.reduce((sum, server) => sum + server.count(Op.CHECK), 0);

    const { original } = await originals.find(name, key);
    const before = checks();
    assert.equal(await originals.still(original), { original, isConfirmed: true });
    assert.is(checks(), before, 'nothing was asked: it has just been');

    await gw.client.remove(key);
    originals.forget(name);
    let thrown: unknown;
    try {
      await originals.still(original);
    } catch (error) {
      thrown = error;
    }
    assert.ok(isTfsError(thrown, 'NOT_FOUND'), String(thrown));
    assert.equal(gone, [name]);
  });
});
