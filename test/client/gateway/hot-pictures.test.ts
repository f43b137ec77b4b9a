import * as assert from 'uvu/assert';
import type { TfsClient } from '../../../client/client.ts';
import { HotPictures } from '../../../client/gateway/hot-pictures.ts';
import type { PictureKey } from '../../../client/reader.ts';
import { isTfsError, TfsError } from '../../../common/errors.ts';
import type { BlockId, Cookie, FileId } from '../../../common/ids.ts';
import { HOT_PICTURE_CHECK_MS, HOT_PICTURE_UNCHECKED_MS_MAX } from '../../../common/limits.ts';
import { type CheckReply, MediaType, NameFlag } from '../../../common/wire/messages.ts';
import { TEST_RULES } from '../../kit/fake-gateway.ts';
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

const notFound = () => new TfsError('NOT_FOUND', 'there is no such picture');

const PICTURE = { facts, first: FIRST, isWhole: true };

/** A client whose questions are answered when the test says so. */
class World {
  readonly clock = new ManualClock();
  readonly checks: ((reply: CheckReply) => void)[] = [];
  /** Reads wait here, once it is there. */
  reads: { resolve: (picture: unknown) => void; reject: (error: Error) => void }[] | undefined;
  readonly hot = new HotPictures(
    {
      get: () =>
        this.reads === undefined
          ? Promise.resolve(PICTURE)
          : new Promise((resolve, reject) => this.reads!.push({ resolve, reject })),
      check: () => new Promise<CheckReply>((resolve) => this.checks.push(resolve)),
    } as unknown as TfsClient,
    this.clock,
    TEST_RULES,
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
  test('a picture that nobody asks for any more leaves the memory', async () => {
    const world = new World();
    const picture = await world.keep();
    world.clock.advance(HOT_PICTURE_UNCHECKED_MS_MAX - 2 * HOT_PICTURE_CHECK_MS);
    world.hot.sweep();
    assert.is(world.hot.count, 1);
    const checked = world.hot.recheck(NAME, picture);
    world.checks[0]!({ nameFlags: 0, provisional: false });
    await checked;
    world.clock.advance(HOT_PICTURE_UNCHECKED_MS_MAX - 1);
    world.hot.sweep();
    assert.is(world.hot.count, 1, 'somebody has asked since');
    world.clock.advance(2);
    world.hot.sweep();
    assert.is(world.hot.count, 0);
    assert.is(world.hot.bytes, 0);
  });

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

  test('a picture that was undeleted is not "not there" on the word of a question that was asked before', async () => {
    const world = new World();
    const reads: NonNullable<World['reads']> = [];
    world.reads = reads;
    const before = world.hot.load(NAME, KEY);
    // The undelete is acknowledged while that one is under way.
    world.clock.advance(5);
    const after = [world.hot.load(NAME, KEY), world.hot.load(NAME, KEY)];
    assert.is(reads.length, 1, 'they wait for it: a picture that is there is there for all');
    reads[0]!.reject(notFound());
    assert.ok(isTfsError(await before.catch((error: unknown) => error), 'NOT_FOUND'));
    await turns(2);
    assert.is(reads.length, 2, 'and ask once more, together');
    reads[1]!.resolve(PICTURE);
    for (const picture of await Promise.all(after)) assert.is(picture.first, FIRST);

    const kept = world.hot.get(NAME)!;
    world.clock.advance(HOT_PICTURE_CHECK_MS + 1);
    const hidden = world.hot.recheck(NAME, kept);
    world.clock.advance(5);
    const revealed = [world.hot.recheck(NAME, kept), world.hot.recheck(NAME, kept)];
    world.checks[0]!({ nameFlags: NameFlag.HIDDEN, provisional: false });
    assert.ok(isTfsError(await hidden.catch((error: unknown) => error), 'NOT_FOUND'));
    await turns(2);
    assert.is(world.checks.length, 2);
    world.checks[1]!({ nameFlags: 0, provisional: false });
    assert.equal(await Promise.all(revealed), [true, true]);
  });
});
