import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { serverId } from '../../common/ids.ts';
import type { ServerInfo } from '../../common/wire/control.ts';
import type { Scrub, ScrubFigures, ScrubPass } from '../../common/wire/scrub.ts';
import { scrubLine } from '../../tools/cli/scrub-line.ts';
import { runScrub } from '../../tools/scrub/run.ts';
import { RushingClock } from '../kit/block-world.ts';
import { describe } from '../kit/suite.ts';

const pass = (overrides: Partial<ScrubPass> = {}): ScrubPass => ({
  startedAtMs: 1_000_000,
  fullSpeed: true,
  replicas: 0,
  bytes: 0,
  damaged: 0,
  problems: 0,
  ...overrides,
});

const figures = (overrides: Partial<ScrubFigures> = {}): ScrubFigures => ({
  leftReplicas: 0,
  leftBytes: 0,
  bytesPerSecond: 0,
  restsForReads: false,
  suspects: 0,
  ...overrides,
});

const server = (id: number, state = 'up') => ({ id: serverId(id), state }) as ServerInfo;

/** A server that answers as a test says, one answer after the other, the last one for ever. */
function answering(...answers: readonly (ScrubFigures | Error)[]) {
  const asked: Scrub['begin'][] = [];
  return {
    asked,
    ask: async (begin: Scrub['begin']): Promise<ScrubFigures> => {
      const next = answers[Math.min(asked.length, answers.length - 1)]!;
      asked.push(begin);
      if (next instanceof Error) throw next;
      return next;
    },
  };
}

describe('tfs scrub', (test) => {
  test('waits for every server to be read through, and then for the repairs', async () => {
    const ended = { endedAtMs: 1_002_000, replicas: 3, bytes: 300 };
    const slow = answering(
      figures({ pass: pass(), leftBytes: 300 }),
      figures({ pass: pass({ bytes: 100 }), leftBytes: 200 }),
      figures({ pass: pass({ ...ended, damaged: 1 }), suspects: 1 }),
      figures({ pass: pass({ ...ended, damaged: 1 }), suspects: 1 }),
      figures({ pass: pass({ ...ended, damaged: 1 }) }),
    );
    const fast = answering(figures({ pass: pass(), leftBytes: 100 }), figures({ pass: pass(ended) }));
    const progress: string[] = [];
    const found = await runScrub([server(1), server(2), server(3, 'down')], {
      begin: 'full-speed',
      wait: true,
      repairWaitMs: 60_000,
      clock: new RushingClock(),
      ask: ({ id }, begin) => (id === 1 ? slow : fast).ask(begin),
      onProgress: (bytes, total) => progress.push(`${bytes}/${total}`),
    });
    assert.equal(slow.asked, ['full-speed', 'no', 'no', 'no', 'no']);
    assert.equal(progress.slice(0, 3), ['0/400', '400/600', '600/600']);
    assert.equal(
      found.map(({ figures: own }) => own?.suspects),
      [0, 0, undefined],
    );
    assert.match(found[2]!.failure!, 'down');
  });

  test('repairs that do not come are waited for only so long, and a server that fails not at all', async () => {
    const broken = answering(figures({ pass: pass({ endedAtMs: 1_000_500 }), suspects: 2 }));
    const lost = answering(new TfsError('CONNECTION_LOST', 'planted'));
    const clock = new RushingClock();
    const startedMs = clock.monotonic();
    const found = await runScrub([server(1), server(2)], {
      begin: 'full-speed',
      wait: true,
      repairWaitMs: 5_000,
      clock,
      ask: ({ id }, begin) => (id === 1 ? broken : lost).ask(begin),
      onProgress: () => undefined,
    });
    assert.is(clock.monotonic() - startedMs, 5_000);
    assert.is(found[0]!.figures!.suspects, 2);
    assert.match(found[1]!.failure!, 'planted');
  });

  test('without --wait it is only begun', async () => {
    const one = answering(figures({ pass: pass(), leftBytes: 10 }));
    await runScrub([server(1)], {
      begin: 'pass',
      wait: false,
      repairWaitMs: 0,
      clock: new RushingClock(),
      ask: (_, begin) => one.ask(begin),
      onProgress: () => undefined,
    });
    assert.equal(one.asked, ['pass']);
  });

  test('a line for each server says how far it is, what was found and when the last pass was', () => {
    const now = 1_000_000 + 60_000;
    assert.is(scrubLine(figures(), now), 'not yet scrubbed');
    const last = pass({ startedAtMs: 0, endedAtMs: 100_000, replicas: 7, bytes: 500e6 });
    const line = scrubLine(
      figures({
        pass: pass({ fullSpeed: false, replicas: 2, bytes: 25, damaged: 1, problems: 3 }),
        leftReplicas: 6,
        leftBytes: 75,
        bytesPerSecond: 1.5e6,
        restsForReads: true,
        suspects: 1,
        last,
      }),
      now,
    );
    assert.is(
      line,
      '25 % of a pass begun 60 s ago: 2 of 8 replicas, 1.5 MB/s, rests for reads; 1 replicas were damaged, in 3 places; ' +
        '1 are now; the last one: 7 replicas read through in 100 s (5.0 MB/s), 16 min ago',
    );
    assert.match(scrubLine(figures({ pass: last, last }), now), /^7 replicas read through in 100 s/);
  });
});
