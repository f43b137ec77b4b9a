import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { PutOptions, Stored } from '../../client/client.ts';
import { extensionsOf, isPrivate, kindOf, mimeOf, needsSandbox } from '../../client/gateway/media.ts';
import { MediaType, PRIVATE_BIT } from '../../common/wire/messages.ts';
import { LocalCluster } from '../kit/local-cluster.ts';
import { describe } from '../kit/suite.ts';

const JPEG = { mediaType: MediaType.JPEG };
const PRIVATE = { ...JPEG, isPrivate: true };

/** Puts, reads the facts back from the disks, and checks that they are what was asked for. */
async function put(cluster: LocalCluster, body: Buffer, options: PutOptions): Promise<Stored> {
  const stored = await cluster.client.put(body, options);
  await expectKind(cluster, stored, options.isPrivate === true);
  return stored;
}

async function expectKind(cluster: LocalCluster, { name }: Stored, shouldBePrivate: boolean): Promise<void> {
  const { facts } = await cluster.client.get(name);
  assert.is(isPrivate(facts.mediaType), shouldBePrivate, name);
  assert.is(kindOf(facts.mediaType), MediaType.JPEG);
}

const placeOf = ({ key }: Stored): string => `${key.block} ${key.fileId}`;

describe('private pictures', (test) => {
  test('are never joined with public ones of the same bytes, whichever came first', async (t) => {
    const cluster = await LocalCluster.start(t);
    for (const order of [
      [JPEG, PRIVATE, JPEG, PRIVATE],
      [PRIVATE, JPEG, JPEG, PRIVATE],
    ]) {
      const body = randomBytes(3000);
      const all: { stored: Stored; isPrivate: boolean }[] = [];
      for (const options of order)
        all.push({ stored: await put(cluster, body, options), isPrivate: 'isPrivate' in options });
      assert.is(new Set(all.map(({ stored }) => placeOf(stored))).size, 4);
      for (const { stored, isPrivate: shouldBe } of all) {
        assert.is(stored.isPrivate, shouldBe);
        // Whether somebody has the same bytes in private is told to nobody.
        if (shouldBe) assert.is(stored.deduplicated, false);
        await expectKind(cluster, stored, shouldBe);
      }
    }
  });

  test('public ones are still joined with each other', async (t) => {
    const cluster = await LocalCluster.start(t);
    const body = randomBytes(3000);
    assert.is((await put(cluster, body, PRIVATE)).deduplicated, false);
    assert.is((await put(cluster, body, JPEG)).deduplicated, false);
    assert.is((await put(cluster, body, JPEG)).deduplicated, true);
  });

  test('a retry leads to the picture of its own kind, also where the key of the request is the same', async (t) => {
    const cluster = await LocalCluster.start(t);
    const body = randomBytes(3000);
    const opId = randomBytes(16);
    const first = await put(cluster, body, { ...PRIVATE, opId });
    const again = await put(cluster, body, { ...PRIVATE, opId });
    assert.is(again.replayed, true);
    assert.is(again.name, first.name);
    const other = await put(cluster, body, { ...JPEG, opId });
    assert.is.not(other.name, first.name);
    // At the same moment: what is under way for one kind is no answer for the other.
    const key = randomBytes(16);
    const fresh = randomBytes(3000);
    const [a, b] = await Promise.all([
      cluster.client.put(fresh, { ...PRIVATE, opId: key }),
      cluster.client.put(fresh, { ...JPEG, opId: key }),
    ]);
    await expectKind(cluster, a!, true);
    await expectKind(cluster, b!, false);
  });

  test('stay apart when the index of contents was lost and built again', async (t) => {
    const cluster = await LocalCluster.start(t);
    const body = randomBytes(3000);
    const before = await put(cluster, body, PRIVATE);
    for (const id of [1, 2, 3]) {
      await cluster.stopServer(id);
      rmSync(join(cluster.mountPath(id), 'kv'), { recursive: true });
      await cluster.startServer(id);
    }
    await cluster.confirmed();
    const after = await put(cluster, body, JPEG);
    assert.is.not(placeOf(after), placeOf(before));
    await expectKind(cluster, before, true);
  });
}, 60_000);

describe('a stored media type', (test) => {
  test('says kind and privacy apart', () => {
    for (const kind of Object.values(MediaType)) {
      const stored = kind | PRIVATE_BIT;
      assert.equal([isPrivate(kind), isPrivate(stored)], [false, true]);
      assert.equal([kindOf(kind), kindOf(stored)], [kind, kind]);
      assert.is(mimeOf(stored), mimeOf(kind));
      assert.equal(extensionsOf(stored), extensionsOf(kind));
      assert.is(needsSandbox(stored), needsSandbox(kind));
    }
  });
});
