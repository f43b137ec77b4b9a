import * as assert from 'uvu/assert';
import type { TfsClient } from '../../../client/client.ts';
import { HotPictures } from '../../../client/gateway/hot-pictures.ts';
import type { PictureKey } from '../../../client/reader.ts';
import { isTfsError } from '../../../common/errors.ts';
import type { BlockId, Cookie, FileId } from '../../../common/ids.ts';
import { HOT_PICTURE_CHECK_MS } from '../../../common/limits.ts';
import { type CheckReply, MediaType, NameFlag } from '../../../common/wire/messages.ts';
import { ManualClock } from '../../kit/manual-clock.ts';
import { turns } from '../../kit/memory-net.ts';
import { describe } from '../../kit/suite.ts';

const NAME = 'T19aETByJT1RCvBVdK';
const KEY: PictureKey = { block: 1 as BlockId, fileId: 2 as FileId, cookie: 3 as Cookie };
const FIRST = Buffer.from('a picture');
const facts = {
  size: FIRST.length,
  dataCrc: 0,
  suffixHash: 0,
  payloadCrc: 0,
  offset: 0,
  mtimeMs: 0,
  mediaType: MediaType.PNG,
  nameFlags: 0,
  provisional: false,
  alias: false,
  sha1: Buffer.alloc(20),
};

/** A client whose questions are answered when the test says so. */
class World {
  readonly clock = new ManualClock();
  readonly checks: ((reply: CheckReply) => void)[] = [];
  readonly hot = new HotPictures(
    {
      get: async () => ({ facts, first: FIRST, isWhole: true }),
      check: () => new Promise<CheckReply>((resolve) => this.checks.push(resolve)),
    } as unknown as TfsClient,
    this.clock,
    1 << 20,
  );

  async keep() {
    await this.hot.load(NAME, KEY);
    await turns(1);
    this.clock.advance(HOT_PICTURE_CHECK_MS + 1);
    return this.hot.get(NAME)!;
  }
}

describe('hot pictures', (test) => {
  test('who asks at the same time shares one question', async () => {
    const world = new World();
    const kept = await world.keep();
    const answers = [world.hot.recheck(NAME, kept), world.hot.recheck(NAME, kept)];
    assert.is(world.checks.length, 1);
    world.checks[0]!({ nameFlags: 0, provisional: false });
    assert.equal(await Promise.all(answers), [true, true]);
    assert.ok(world.hot.isFresh(kept));
  });

  test('a deleted picture is not served on the word of a question that was asked before and hangs', async () => {
    const world = new World();
    const kept = await world.keep();
    const before = world.hot.recheck(NAME, kept);
    // The delete is acknowledged while that question waits for a server that hangs.
    world.clock.advance(HOT_PICTURE_CHECK_MS + 1);
    const after = world.hot.recheck(NAME, kept);
    assert.is(world.checks.length, 2);
    world.checks[0]!({ nameFlags: 0, provisional: false });
    assert.is(await before, true);
    assert.not(world.hot.isFresh(kept), 'an old answer makes nothing fresh');
    world.checks[1]!({ nameFlags: NameFlag.DELETED, provisional: false });
    const error = await after.catch((thrown: unknown) => thrown);
    assert.ok(isTfsError(error, 'NOT_FOUND'));
    assert.is(world.hot.get(NAME), undefined);
  });
});
