import * as assert from 'uvu/assert';
import { isTfsError } from '../../common/errors.ts';
import { incarnationOf, serverId } from '../../common/ids.ts';
import type { Register } from '../../common/wire/control.ts';
import { Members } from '../../nameserver/members.ts';
import { NameStore } from '../../nameserver/name-store.ts';
import { View } from '../../nameserver/view.ts';
import { captureLog } from '../kit/capture-log.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { MemoryKvMedium } from '../kit/memory-kv.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe } from '../kit/suite.ts';
import { servers } from './entries.ts';
import { addressOf, registerOf, reignOf, UUID } from './messages.ts';

const REIGN = reignOf(5);

class World {
  readonly medium = new MemoryKvMedium();
  readonly clock = new ManualClock();
  store!: NameStore;
  members!: Members;

  async open(configured: readonly number[] = [1, 2, 3]): Promise<Members> {
    this.medium.crash();
    this.store = new NameStore(await this.medium.open());
    this.members = await Members.open({
      store: this.store,
      clock: this.clock,
      random: new SeededRandom(1),
      configured: configured.map((id) => ({
        id: serverId(id),
        address: addressOf(id),
        adminPort: 1,
        mount: `/mnt/m${id}`,
        domain: `d${id}`,
      })),
    });
    return this.members;
  }

  /** Registers, reports everything it has (nothing), promises. */
  async join(id: number, register: Register = registerOf(id)): Promise<void> {
    const { live } = await this.members.register(register, UUID);
    live.table.page({ page: 0, last: true, sequence: 0 });
    this.members.hear(serverId(id), register.incarnation, { promise: REIGN, echo: this.clock.monotonic() });
  }

  async refusal(register: Register): Promise<string> {
    const error = await this.members.register(register, UUID).then(
      () => undefined,
      (failure: unknown) => failure,
    );
    assert.ok(isTfsError(error, 'REFUSED'), String(error));
    return (error as Error).message;
  }
}

describe('members', (test) => {
  test('known are the configured, those that registered, and those that others name, over restarts', async () => {
    const world = new World();
    const members = await world.open([1, 2]);
    await world.join(5);
    await members.learn(servers(2, 9));
    assert.equal(members.known, servers(1, 2, 5, 9));
    assert.equal((await world.open([1])).known, servers(1, 2, 5, 9));
  });

  test('of all that are known it says what time their machines have, or that they have not said so', async () => {
    const world = new World();
    await world.open([1]);
    await world.join(2);
    await world.members.learn(servers(9));
    world.members.get(serverId(2))!.clockLeadMs = 7;
    const { host } = addressOf(1);
    assert.equal(
      [...world.members.clockVotes()],
      [
        { host, leadMs: undefined },
        { host, leadMs: 7 },
        { host: undefined, leadMs: undefined },
      ],
    );
    await world.open([]);
    assert.equal(
      [...world.members.clockVotes()].map(({ leadMs }) => leadMs),
      [undefined, undefined, undefined],
      'after a restart nobody has',
    );
  });

  test('a restart of the NameServer makes everyone register again', async () => {
    const world = new World();
    await world.open();
    await world.join(1);
    assert.is(world.members.stateOf(serverId(1)), 'up');
    await world.open();
    assert.throws(
      () => world.members.hear(serverId(1), incarnationOf(1)),
      (error: unknown) => isTfsError(error, 'UNREGISTERED'),
    );
    assert.is(world.members.stateOf(serverId(1)), 'down');
    assert.is(world.members.stateOf(serverId(2)), 'missing');
    await world.join(1);
    assert.throws(
      () => world.members.hear(serverId(1), incarnationOf(2)),
      (error: unknown) => isTfsError(error, 'UNREGISTERED'),
    );
  });

  test('a mount of another cluster is refused', async () => {
    const world = new World();
    await world.open();
    assert.match(
      await world.refusal(registerOf(1, { clusterUuid: 'ff'.repeat(16) })),
      /belongs to cluster ffff.*config\.json/,
    );
  });

  test('an id that is alive elsewhere is refused; one that went away may move', async () => {
    const world = new World();
    await world.open();
    await world.join(1);
    const elsewhere = registerOf(1, { address: addressOf(9), incarnation: 2, pid: 77 });
    assert.match(await world.refusal(elsewhere), /server 1 is alive at 10\.0\.0\.1:7522 \(pid 1001/);
    world.clock.advance(2500);
    const { isChanged } = await world.members.register(elsewhere, UUID);
    assert.ok(isChanged);
  });

  test('the same process may register again; a second one, or an older copy of the mount, is refused', async () => {
    const world = new World();
    await world.open();
    await world.join(1, registerOf(1, { incarnation: 7 }));
    const again = await world.members.register(registerOf(1, { incarnation: 7 }), UUID);
    assert.not(again.isChanged);
    assert.match(
      await world.refusal(registerOf(1, { incarnation: 7, pid: 5 })),
      /incarnation 7, and 7 was seen/,
    );
    await world.open();
    assert.match(
      await world.refusal(registerOf(1, { incarnation: 6, pid: 5 })),
      /restored from an older copy/,
    );
    await world.members.register(registerOf(1, { incarnation: 8, pid: 5 }), UUID);
  });

  test('a promise that went down shows a restored mount', async () => {
    const world = new World();
    await world.open();
    await world.join(1, registerOf(1, { promise: reignOf(4) }));
    assert.match(
      await world.refusal(registerOf(1, { incarnation: 2, pid: 5, promise: reignOf(3) })),
      /promise 3, and 4 was seen/,
    );
  });

  test('a disk that was in service for less long than it has shown is refused, also after restarts', async () => {
    const world = new World();
    await world.open();
    const start = (incarnation: number, diskAge?: number) =>
      registerOf(1, { incarnation, pid: incarnation, ...(diskAge === undefined ? {} : { diskAge }) });
    await world.join(1, start(1, 10));
    world.members.heardAge(world.members.get(serverId(1))!, 14);
    world.members.heardAge(world.members.get(serverId(1))!, 12);
    world.clock.advance(10_000);
    assert.match(await world.refusal(start(2, 13)), /in service for 13 s, and 14 s were seen.*older copy/);
    await world.open();
    assert.match(await world.refusal(start(3, 13)), /14 s were seen/, 'what it was refused for is durable');
    await world.members.register(start(3, 14), UUID);
    await world.members.register(start(4), UUID);
    assert.match(
      await world.refusal(start(5, 13)),
      /14 s/,
      'a version that does not count is let in, and forgets nothing',
    );
    await world.members.register(start(5, 20), UUID);
    await world.open();
    assert.match(await world.refusal(start(6, 19)), /20 s/);
  });

  test('the ages of all disks are durable when one of them has become five seconds older', async () => {
    const world = new World();
    await world.open();
    await world.join(1, registerOf(1, { diskAge: 10 }));
    await world.join(2, registerOf(2, { diskAge: 10 }));
    world.members.heardAge(world.members.get(serverId(2))!, 14);
    world.members.heardAge(world.members.get(serverId(1))!, 15);
    await world.members.learn(servers(9));
    await world.open();
    const next = { incarnation: 2, pid: 2 };
    assert.match(await world.refusal(registerOf(1, { ...next, diskAge: 14 })), /15 s were seen/);
    assert.match(await world.refusal(registerOf(2, { ...next, diskAge: 13 })), /14 s were seen/);
    await world.members.register(registerOf(2, { ...next, diskAge: 14 }), UUID);
  });

  test('nothing is registered that could not be stored', async () => {
    const world = new World();
    await world.open();
    world.medium.crash();
    const failure = await world.members.register(registerOf(1), UUID).catch((error: unknown) => error);
    assert.ok(isTfsError(failure, 'CLOSED'));
    assert.is(world.members.get(serverId(1)), undefined);
  });

  test('up, down, and the change is noticed once', async () => {
    const world = new World();
    const members = await world.open();
    await world.join(1);
    assert.ok(members.noticeStates());
    assert.not(members.noticeStates());
    world.clock.advance(4999);
    assert.not(members.noticeStates());
    world.clock.advance(1);
    assert.ok(members.noticeStates());
    assert.is(members.infos()[0]?.state, 'down');
    members.hear(serverId(1), incarnationOf(1));
    assert.ok(members.noticeStates());
  });

  test('a server that said its last word is down at once, and nobody has to fear its answers', async () => {
    const world = new World();
    const members = await world.open();
    for (const id of [1, 2, 3]) await world.join(id);
    for (const id of [1, 2]) members.confirmed(serverId(id));
    members.get(serverId(1))!.leaving = 'stopping';
    assert.is(members.stateOf(serverId(1)), 'up', 'it still answers');
    assert.ok(members.reachable(serverId(1), REIGN));
    assert.ok(members.unconfirmedFromMs(serverId(1), REIGN, 2) > world.clock.monotonic());
    members.get(serverId(1))!.leaving = 'gone';
    assert.is(members.stateOf(serverId(1)), 'down');
    assert.is(members.reachable(serverId(1), REIGN), undefined);
    assert.ok(members.unconfirmedFromMs(serverId(1), REIGN, 2) < world.clock.monotonic());
    assert.ok(members.unconfirmedFromMs(serverId(2), REIGN, 2) > world.clock.monotonic());
    assert.equal(
      members.infos().map(({ leaving }) => leaving),
      [true, false, false],
    );
    await world.join(1, registerOf(1, { incarnation: 2 }));
    assert.is(members.stateOf(serverId(1)), 'up', 'its next life');
    assert.is(members.infos()[0]?.leaving, false);
  });

  test('missing is who is silent, has not reported everything, or has not promised this reign', async () => {
    const world = new World();
    const members = await world.open();
    assert.equal(members.missing(REIGN), servers(1, 2, 3));
    for (const id of [1, 2, 3]) await world.join(id);
    assert.equal(members.missing(REIGN), []);
    assert.equal(members.missing(reignOf(6)), servers(1, 2, 3));
    members.get(serverId(2))?.table.reset();
    assert.equal(members.missing(REIGN), servers(2));
    assert.equal(members.missing(undefined), servers(2), 'a standby asks for no promise');
    const token = members.token();
    world.clock.advance(2999);
    members.hear(serverId(1), incarnationOf(1), { echo: members.token() });
    members.hear(serverId(3), incarnationOf(1), { echo: token });
    assert.equal(members.missing(REIGN), servers(2));
    world.clock.advance(1);
    assert.equal(members.missing(REIGN), servers(2, 3), 'what was read just now was sent long ago');
    members.hear(serverId(3), incarnationOf(1), { echo: members.token() + 1 });
    assert.equal(members.missing(REIGN), servers(2, 3), 'a token of another life');
  });

  test('only who is up and has promised this reign can be commanded', async () => {
    const world = new World();
    const members = await world.open();
    await world.join(1);
    assert.equal(members.reachable(serverId(1), REIGN), {
      id: serverId(1),
      incarnation: incarnationOf(1),
      address: addressOf(1),
    });
    assert.is(members.reachable(serverId(1), reignOf(6)), undefined);
    assert.is(members.reachable(serverId(2), REIGN), undefined);
    world.clock.advance(5000);
    assert.is(members.reachable(serverId(1), REIGN), undefined);
    assert.ok(members.address(serverId(1)));
  });
});

/** When a server that is left out of a configuration takes itself for current no longer. */
describe('members: unconfirmed', (test) => {
  const from = (world: World, id: number) => world.members.unconfirmedFromMs(serverId(id), REIGN, 2);

  test('one that obeys listens to this leader only: its last word counts', async () => {
    const world = new World();
    await world.open();
    await world.join(1);
    assert.ok(from(world, 1) < world.clock.monotonic(), 'it was told nothing yet');
    world.members.confirmed(serverId(1));
    const told = world.clock.monotonic();
    world.clock.advance(700);
    assert.is(from(world, 1), told + 3000);
    // Registered again: the word may have reached it.
    await world.join(1);
    assert.is(from(world, 1), told + 3000);
  });

  test('one that does not may listen to an older leader, for 6 s after that one lost too many', async () => {
    const world = new World();
    await world.open();
    assert.is(from(world, 3), Number.POSITIVE_INFINITY);
    await world.join(1);
    assert.is(from(world, 3), Number.POSITIVE_INFINITY, 'one of three may be missing for a complete view');
    world.clock.advance(500);
    const turned = world.clock.monotonic();
    await world.join(2);
    world.clock.advance(100);
    assert.is(from(world, 3), turned + 6000);
    // A promise is as old as its first sight, not its last.
    world.members.hear(serverId(2), incarnationOf(1), { promise: REIGN });
    await world.join(2, registerOf(2, { promise: REIGN }));
    assert.is(from(world, 3), turned + 6000);
    assert.is(world.members.unconfirmedFromMs(serverId(1), reignOf(6), 2), Number.POSITIVE_INFINITY);
    // It may have promised, and its last word was lost.
    world.clock.advance(4000);
    world.members.confirmed(serverId(3));
    assert.is(from(world, 3), world.clock.monotonic() + 3000);
  });
});

describe('view', (test) => {
  const open = (world: World, minWrite = 2): Promise<View> =>
    View.open({
      store: world.store,
      log: captureLog(),
      minWrite,
      missing: () => world.members.missing(REIGN),
    });

  test('after a wipe nobody may be missing, later fewer than minWrite', async () => {
    const world = new World();
    await world.open();
    const view = await open(world);
    for (const id of [1, 2]) await world.join(id);
    await view.notice();
    assert.not(view.isComplete());
    assert.not(view.isWhole);
    await world.join(3, registerOf(3, { knownMembers: [1, 2, 3, 4] }));
    await world.members.learn(servers(4));
    assert.not(view.isComplete(), 'a server that only another one knows is missing');
    await world.join(4);
    await view.notice();
    assert.ok(view.isWhole);

    await world.open();
    const later = await open(world);
    assert.ok(later.isWhole);
    for (const id of [1, 2]) {
      assert.not(later.isComplete());
      await world.join(id, registerOf(id, { incarnation: 2 }));
    }
    assert.not(later.isComplete(), 'two of four are missing');
    await world.join(3, registerOf(3, { incarnation: 2 }));
    assert.ok(later.isComplete());
    world.clock.advance(3000);
    assert.not(later.isComplete(), 'nobody has been heard for a while');
  });

  test('doubt counts at once and lasts over a restart', async () => {
    const world = new World();
    await world.open();
    const view = await open(world);
    for (const id of [1, 2, 3]) await world.join(id);
    await view.notice();
    const doubting = view.doubt();
    await doubting;
    assert.not(view.isWhole);
    await world.open();
    assert.not((await open(world)).isWhole);
  });
});
