import * as assert from 'uvu/assert';
import { Hedging } from '../../client/hedging.ts';
import { LatencyWindow } from '../../client/latency-window.ts';
import { type Answer, askInTurn } from '../../client/round.ts';
import type { ServerId } from '../../common/ids.ts';
import { HEDGE_MS_MAX, HEDGE_MS_MIN, HEDGES_BURST_MAX } from '../../common/limits.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { describe } from '../kit/suite.ts';

const loud = () => false;
const SERVER = 1 as ServerId;
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('latency window', (test) => {
  test('knows nothing before there are enough, then what all but one in twenty took', () => {
    const window = new LatencyWindow();
    for (let i = 0; i < 19; i++) window.add(1);
    assert.is(window.p95Ms, undefined);
    for (let i = 0; i < 300; i++) window.add(i % 20 === 7 ? 300 : 2);
    assert.ok(window.p95Ms! >= 2 && window.p95Ms! <= 300);
    for (let i = 0; i < 600; i++) window.add(i % 40 === 7 ? 300 : 3);
    assert.is(window.p95Ms, 3);
  });
});

describe('hedging', (test) => {
  const late = (hedging: Hedging) => {
    const seen = { late: false };
    const watched = hedging.watch('first', SERVER, () => {
      seen.late = true;
    });
    return { seen, watched };
  };
  const advance = (clock: ManualClock, ms: number) => {
    for (let i = 0; i < ms; i += 5) clock.advance(5);
  };

  test('the delay follows the answers, within bounds', () => {
    const hedging = new Hedging(new ManualClock(), loud);
    assert.is(hedging.delayMs('first'), HEDGE_MS_MAX);
    for (let i = 0; i < 100; i++) hedging.answered('first', 0.3);
    assert.is(hedging.delayMs('first'), HEDGE_MS_MIN);
    for (let i = 0; i < 400; i++) hedging.answered('first', 40);
    assert.is(hedging.delayMs('first'), 40);
    for (let i = 0; i < 400; i++) hedging.answered('first', 4000);
    assert.is(hedging.delayMs('first'), HEDGE_MS_MAX);
    assert.is(hedging.delayMs('check'), HEDGE_MS_MAX, 'each kind has its own');
  });

  test('a question that is answered in time is not late', () => {
    const clock = new ManualClock();
    const hedging = new Hedging(clock, loud);
    const { seen, watched } = late(hedging);
    advance(clock, 200);
    watched.done = true;
    advance(clock, 500);
    assert.is(seen.late, false);
    assert.is(clock.pending, 0, 'no timer runs while nothing is watched');
  });

  test('a share of all questions may be put twice, not more', () => {
    const clock = new ManualClock();
    const hedging = new Hedging(clock, loud);
    for (let i = 0; i < 2000; i++) {
      hedging.earn();
      late(hedging);
      if (i % 10 === 9) advance(clock, 5);
    }
    advance(clock, 300);
    const { hedges } = hedging.stats;
    assert.ok(hedges >= 100 && hedges <= HEDGES_BURST_MAX + 160, `${hedges} of 2000`);
  });

  test('a server that has gone silent is no matter of budget', () => {
    const clock = new ManualClock();
    const hedging = new Hedging(clock, () => true);
    const all = Array.from({ length: 100 }, () => late(hedging));
    advance(clock, 300);
    assert.ok(all.every(({ seen }) => seen.late));
    assert.is(hedging.stats.hedges, 0);
  });

  test('when this process itself was held up, the answers that wait are read first', () => {
    const clock = new ManualClock();
    const hedging = new Hedging(clock, () => true);
    let jump = 0;
    const real = clock.monotonic.bind(clock);
    clock.monotonic = () => (real() + jump) as ReturnType<typeof real>;
    const { seen, watched } = late(hedging);
    jump = 5000;
    clock.advance(5);
    assert.is(seen.late, false);
    watched.done = true;
    advance(clock, 300);
    assert.is(seen.late, false);
  });
});

describe('a question put to one after the other', (test) => {
  /** Replicas that answer when the test says so. */
  class Replicas {
    readonly asked: number[] = [];
    readonly #answers: ((answer: Answer<string> | undefined) => void)[] = [];
    readonly #failures: ((error: unknown) => void)[] = [];
    readonly #late: (() => void)[] = [];
    readonly held: (string | undefined)[] = [];
    readonly outcome: Promise<Answer<string> | undefined>;

    constructor(count: number) {
      this.outcome = askInTurn<string>({
        count,
        ask: (i, held) => {
          this.asked.push(i);
          this.held.push(held?.value);
          return new Promise((resolve, reject) => {
            this.#answers[i] = resolve;
            this.#failures[i] = reject;
          });
        },
        watch: (i, onLate) => {
          this.#late[i] = onLate;
          return { done: false };
        },
      });
      this.outcome.catch(() => undefined);
    }
    async answers(i: number, value: string, provisional = false) {
      this.#answers[i]!({ value, provisional });
      await settled();
    }
    async fails(i: number) {
      this.#answers[i]!(undefined);
      await settled();
    }
    async ends(i: number, why: string) {
      this.#failures[i]!(new Error(why));
      await settled();
    }
    isLate(i: number) {
      this.#late[i]!();
    }
  }

  test('the next is asked when one fails', async () => {
    const replicas = new Replicas(3);
    await replicas.fails(0);
    await replicas.answers(1, 'b');
    assert.is((await replicas.outcome)?.value, 'b');
    assert.equal(replicas.asked, [0, 1]);
  });

  test('the next is asked as well when one is late, and the first good answer counts', async () => {
    const replicas = new Replicas(3);
    replicas.isLate(0);
    assert.equal(replicas.asked, [0, 1]);
    await replicas.answers(1, 'b');
    await replicas.answers(0, 'a');
    assert.is((await replicas.outcome)?.value, 'b');
    const second = new Replicas(2);
    second.isLate(0);
    await second.answers(0, 'a');
    assert.is((await second.outcome)?.value, 'a');
  });

  test('what the loser of a race says changes nothing, also when it would have ended the question', async () => {
    const replicas = new Replicas(2);
    replicas.isLate(0);
    await replicas.answers(1, 'b');
    await replicas.ends(0, 'not found');
    assert.is((await replicas.outcome)?.value, 'b');
  });

  test('a final answer ends it while another one is still waited for', async () => {
    const replicas = new Replicas(3);
    replicas.isLate(0);
    await replicas.ends(1, 'not found');
    assert.is(await replicas.outcome.catch((error: Error) => error.message), 'not found');
    await replicas.fails(0);
    assert.equal(replicas.asked, [0, 1], 'nobody else is asked');
  });

  test('a provisional answer is kept, given to those asked after it, and used when there is none better', async () => {
    const replicas = new Replicas(3);
    await replicas.answers(0, 'old', true);
    await replicas.answers(1, 'older', true);
    await replicas.fails(2);
    assert.equal(await replicas.outcome, { value: 'old', provisional: true });
    assert.equal(replicas.held, [undefined, 'old', 'old']);
  });

  test('with a provisional answer held, one that is late is still waited for', async () => {
    const replicas = new Replicas(2);
    replicas.isLate(0);
    await replicas.answers(1, 'old', true);
    await replicas.answers(0, 'new');
    assert.is((await replicas.outcome)?.value, 'new');
  });

  test('nobody to ask, or nobody who answers', async () => {
    assert.is(await new Replicas(0).outcome, undefined);
    const replicas = new Replicas(1);
    await replicas.fails(0);
    assert.is(await replicas.outcome, undefined);
  });
});
