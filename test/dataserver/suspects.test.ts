import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { serverId } from '../../common/ids.ts';
import { SUSPECT_LINK_MS } from '../../common/limits.ts';
import type { Peers } from '../../common/wire/peers.ts';
import { Suspects } from '../../dataserver/suspects.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { describe, type TestContext } from '../kit/suite.ts';

const address = { host: 'ds', port: 1002 };
const LATE = new TfsError('DEADLINE', 'no answer in time');
const LOST = new TfsError('CONNECTION_LOST', 'closed');
const two = serverId(2);

function world(t: TestContext) {
  const clock = new ManualClock();
  const state = { answers: true };
  const peers = {
    call: async () => {
      if (!state.answers) throw LATE;
      return { header: Buffer.alloc(0), payload: Buffer.alloc(0) };
    },
  } as unknown as Peers;
  const suspects = new Suspects({ clock, peers });
  t.defer(() => suspects.close());
  return { clock, state, suspects, pass: (ms: number) => clock.spend(clock.sleep(ms)) };
}

describe('suspected peers', (test) => {
  test('one whose connection broke is trusted again when it has answered a few pings', async (t) => {
    const { state, suspects, pass } = world(t);
    state.answers = false;
    suspects.suspect(two, address, LOST);
    await pass(5000);
    assert.equal(suspects.all, [2]);
    state.answers = true;
    await pass(1000);
    assert.equal(suspects.all, []);
  });

  test('one that is late and answers pings has a slow disk: only time clears it, or the want of others', async (t) => {
    const { suspects, pass } = world(t);
    suspects.suspect(two, address, LATE);
    await pass(SUSPECT_LINK_MS / 2);
    assert.equal(suspects.all, [2]);
    suspects.pardonSlow();
    assert.equal(suspects.all, []);
    suspects.suspect(two, address, LATE);
    await pass(SUSPECT_LINK_MS);
    assert.equal(suspects.all, []);
  });

  test('one that is late and answers no ping is stopped: it is not pardoned, and trusted when it goes on', async (t) => {
    const { state, suspects, pass } = world(t);
    state.answers = false;
    suspects.suspect(two, address, LATE);
    suspects.pardonSlow();
    assert.equal(suspects.all, [2], 'nobody knows yet');
    await pass(5000);
    suspects.pardonSlow();
    assert.equal(suspects.all, [2]);
    state.answers = true;
    await pass(1500);
    assert.equal(suspects.all, []);
  });
});
