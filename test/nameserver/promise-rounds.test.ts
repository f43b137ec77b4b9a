import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { incarnationOf, type ServerId, serverId } from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import type { PromiseReply, Reign } from '../../common/wire/control.ts';
import { Members } from '../../nameserver/members.ts';
import { NameStore } from '../../nameserver/name-store.ts';
import { PromiseRounds } from '../../nameserver/promise-rounds.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { MemoryKvMedium } from '../kit/memory-kv.ts';
import { turns } from '../kit/memory-net.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe } from '../kit/suite.ts';
import { addressOf, registerOf, reignOf, UUID } from './messages.ts';

const REIGN = reignOf(5);

interface Asked {
  readonly server: ServerId;
  answer(promise?: Reign): void;
  fail(): void;
}

/** DataServers 1 to `count`, registered, whose answers a test gives. */
class World {
  readonly clock = new ManualClock();
  readonly asked: Asked[] = [];
  readonly shown: { promise: Reign; isOwn: boolean }[] = [];
  reign: Reign | undefined = REIGN;
  members!: Members;
  rounds!: PromiseRounds;

  static async open({ count = 3, minWrite = 2, promise = reignOf(4) } = {}): Promise<World> {
    const world = new World();
    const { clock } = world;
    const ids = Array.from({ length: count }, (_, i) => serverId(i + 1));
    const store = new NameStore(await new MemoryKvMedium().open());
    world.members = await Members.open({
      store,
      clock,
      random: new SeededRandom(1),
      configured: ids.map((id) => ({
        id,
        address: addressOf(id),
        adminPort: 1,
        mount: '',
        domain: `d${id}`,
      })),
    });
    for (const id of ids) await world.members.register(registerOf(id, { promise }), UUID);
    world.rounds = new PromiseRounds({
      members: world.members,
      log: silentLog,
      minWrite,
      reign: () => world.reign,
      ask: ({ id }) =>
        new Promise<PromiseReply>((resolve, reject) => {
          world.asked.push({
            server: id,
            answer: (given = REIGN) => resolve({ server: id, incarnation: incarnationOf(1), promise: given }),
            fail: () => reject(new TfsError('DEADLINE', 'planted')),
          });
        }),
      onShown: (promise_, isOwn) => world.shown.push({ promise: promise_, isOwn }),
    });
    return world;
  }

  /** The questions that came since the last call. */
  async questions(): Promise<Asked[]> {
    await turns(3);
    return this.asked.splice(0);
  }
}

async function settled(work: Promise<boolean>): Promise<boolean | 'pending'> {
  await turns(3);
  return Promise.race([work, Promise.resolve('pending' as const)]);
}

describe('promise rounds', (test) => {
  test('it leads when more than known - minWrite say so, and not before', async () => {
    for (const [count, minWrite, needed] of [
      [3, 2, 2],
      [3, 1, 3],
      [5, 2, 4],
      [1, 1, 1],
    ] as const) {
      const world = await World.open({ count, minWrite });
      const round = world.rounds.confirm();
      const questions = await world.questions();
      assert.is(questions.length, count);
      for (const question of questions.slice(0, needed - 1)) question.answer();
      assert.is(await settled(round), 'pending');
      questions[needed - 1]!.answer();
      assert.is(await settled(round), true);
      for (const id of [1, needed]) assert.equal(world.members.get(serverId(id))?.promise, REIGN);
    }
  });

  test('it does not lead when too few can say so, or any of them obeys another one', async () => {
    const world = await World.open();
    const failing = world.rounds.confirm();
    const [one, two, three] = await world.questions();
    one!.answer();
    two!.fail();
    assert.is(await settled(failing), 'pending');
    three!.fail();
    assert.is(await settled(failing), false);

    const deposed = world.rounds.confirm();
    const questions = await world.questions();
    questions[0]!.answer(reignOf(6, 1));
    assert.equal(world.shown, [{ promise: REIGN, isOwn: true }]);
    await turns(2);
    assert.equal(world.shown[1], { promise: reignOf(6, 1), isOwn: true });
    world.reign = undefined;
    for (const question of questions.slice(1)) question.answer();
    assert.is(await settled(deposed), false);
    assert.is(await settled(world.rounds.confirm()), false, 'nobody is asked without a reign');
    assert.is((await world.questions()).length, 0);
  });

  test('an answer is a promise to command under, and no word about blocks', async () => {
    const world = await World.open();
    const round = world.rounds.confirm();
    for (const question of await world.questions()) question.answer();
    assert.is(await settled(round), true);
    assert.ok(world.members.reachable(serverId(1), REIGN));
    assert.equal(world.members.missing(REIGN), world.members.known);
  });

  test('what was asked during a round is answered by the next one, all by the same', async () => {
    const world = await World.open();
    const first = world.rounds.confirm();
    const old = await world.questions();
    const later = [world.rounds.confirm(), world.rounds.confirm(), world.rounds.confirm()];
    assert.is((await world.questions()).length, 0);
    for (const question of old) question.answer();
    assert.is(await settled(first), true);
    for (const one of later) assert.is(await settled(one), 'pending', 'the old answers count for nothing');
    const fresh = await world.questions();
    assert.is(fresh.length, 3);
    for (const question of fresh) question.answer();
    for (const one of later) assert.is(await settled(one), true);
  });

  test('a server that has not answered the last round is not asked once more', async () => {
    const world = await World.open();
    for (let i = 0; i < 20; i++) {
      const round = world.rounds.confirm();
      const questions = await world.questions();
      assert.is(questions.length, i === 0 ? 3 : 2);
      for (const { server, answer } of questions) if (server !== 3) answer();
      assert.is(await settled(round), true);
    }
  });

  test('a promise that looks the same and was not asked for is of a life before: shown as foreign', async () => {
    const world = await World.open({ promise: REIGN });
    const round = world.rounds.confirm();
    assert.is((await world.questions()).length, 0);
    assert.is(await settled(round), false);
    assert.equal(world.shown[0], { promise: REIGN, isOwn: false });
  });
});
