import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { type BlockId, type ServerId, serverId } from '../../common/ids.ts';
import { encodeControl } from '../../common/wire/control.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import { Takeover } from '../../dataserver/takeover.ts';
import { describe } from '../kit/suite.ts';

const B = 65_537 as BlockId;
const [SELF, OTHER] = [serverId(1), serverId(2)];

/** Server 1, which holds a configuration of the block. */
class World {
  opsPrimary = SELF;
  unfit: TfsError | undefined;
  readonly asked: (readonly ServerId[])[] = [];
  isLeaderless = false;
  /** Who orders the operations after the leader was asked; undefined while it refuses. */
  next: ServerId | undefined;
  /** Undefined while it does not answer. */
  canOther: boolean | undefined;
  readonly takeover = new Takeover({
    server: SELF,
    store: { info: () => ({ opsPrimary: this.opsPrimary }) } as unknown as BlockStore,
    peers: {
      call: async () => {
        if (this.canOther === undefined) throw new TfsError('DEADLINE', 'silent');
        return { header: encodeControl({ able: this.canOther }), payload: Buffer.alloc(0) };
      },
    },
    directory: { address: async (id) => ({ host: 'node', port: id }) },
    unfit: () => this.unfit,
    requestConfiguration: async (_, failed) => {
      this.asked.push(failed);
      if (this.isLeaderless)
        throw new TfsError('UNAVAILABLE', 'no leader', { details: { leaderless: true } });
      if (this.next === undefined) throw new TfsError('UNAVAILABLE', 'it is to be told first');
      if (!failed.includes(SELF)) this.opsPrimary = this.next;
      return { opsPrimary: this.next };
    },
  });

  async ensure(): Promise<string> {
    try {
      await this.takeover.ensure(B);
      return 'mine';
    } catch (error) {
      return isTfsError(error) ? `${error.details?.['opsPrimary'] ?? error.message}` : String(error);
    }
  }
}

describe('who orders the operations of a block', (test) => {
  test('a sequencer that can asks nobody', () => {
    const world = new World();
    assert.is(world.takeover.ensure(B), undefined);
  });

  test('one whose disk fails has itself left out, and says who does it then', async () => {
    const world = new World();
    world.unfit = new TfsError('READ_ONLY', 'the disk takes no writes');
    assert.is(await world.ensure(), 'the disk takes no writes; it is to be told first');
    world.next = OTHER;
    assert.equal(await Promise.all([world.ensure(), world.ensure()]), ['2', '2']);
    assert.equal(world.asked, [[SELF], [SELF]], 'once for all who wait');
    world.next = SELF;
    assert.is(await world.ensure(), 'the disk takes no writes; nobody else can do it now');
    world.isLeaderless = true;
    const error = await world.takeover.giveUp(B, world.unfit).catch((thrown: unknown) => thrown);
    assert.ok(isTfsError(error, 'UNAVAILABLE'));
    assert.equal(error.details, { leaderless: true }, 'the client asks another member');
  });

  test('giving up never ends well, also where it waited for what made this server the sequencer', async () => {
    const world = new World();
    world.opsPrimary = OTHER;
    world.next = SELF;
    const taken = world.ensure();
    const given = world.takeover.giveUp(B, new TfsError('CORRUPT', 'its record is damaged'));
    assert.is(await given.catch(({ code }: TfsError) => code), 'UNAVAILABLE');
    assert.is(await taken, 'mine');
    assert.equal(world.asked, [[OTHER]]);
  });

  test('a member takes the place of one that is silent, or that cannot, and names one that can', async () => {
    const world = new World();
    world.opsPrimary = OTHER;
    world.canOther = true;
    assert.is(await world.ensure(), '2');
    assert.equal(world.asked, []);
    for (const cannot of [undefined, false]) {
      world.canOther = cannot;
      world.opsPrimary = OTHER;
      world.next = SELF;
      assert.is(await world.ensure(), 'mine');
    }
    assert.equal(world.asked, [[OTHER], [OTHER]]);
    world.opsPrimary = OTHER;
    world.next = serverId(3);
    world.takeover.ensure(B);
    world.opsPrimary = OTHER;
    assert.is(await world.ensure(), '3', 'who was left out is told who does it');
  });
});
