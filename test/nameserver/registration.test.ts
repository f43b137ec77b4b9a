import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { isSetBack, type Nonces, withNonce } from '../../nameserver/registration.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe } from '../kit/suite.ts';

const random = new SeededRandom(1);
const next = (known: Nonces | undefined, shown: string | undefined) =>
  withNonce(known, shown, random.bytes(4));
const newest = (known: Nonces) => known.given[0]!;

describe('registration nonces', (test) => {
  test('a disk shows at each registration what the last one left on it', () => {
    assert.is(isSetBack(undefined, undefined), false);
    let known = next(undefined, undefined);
    for (let i = 0; i < 5; i++) {
      const shown = newest(known);
      assert.match(shown, /^[0-9a-f]{16}$/);
      assert.is(isSetBack(known, shown), false);
      known = next(known, shown);
    }
  });

  test('an older copy shows an older one, or none, and is found out', () => {
    let known = next(undefined, undefined);
    const copies = [newest(known)];
    for (let i = 0; i < 4; i++) {
      known = next(known, newest(known));
      copies.push(newest(known));
    }
    for (const old of copies.slice(0, -2)) assert.is(isSetBack(known, old), true, old);
    assert.is(isSetBack(known, undefined), true);
    assert.is(isSetBack(known, `${newest(known).slice(0, 8)}00000000`), true, 'a copy that went its own way');
  });

  test('an answer that was lost is no older copy, however often', () => {
    const first = next(undefined, undefined);
    assert.is(isSetBack(first, undefined), false, 'the first answer was lost');
    let known = next(first, newest(first));
    const shown = newest(first);
    for (let i = 0; i < 5; i++) {
      assert.is(isSetBack(known, shown), false);
      known = next(known, shown);
    }
    assert.is(isSetBack(known, newest(known)), false);
  });

  test('a registration that was overtaken by a later one does not lock the disk out', () => {
    const first = next(undefined, undefined);
    const taken = next(first, newest(first));
    // Read only now: sent before the one that was taken.
    const late = next(taken, newest(first));
    assert.is(isSetBack(late, newest(taken)), false);
  });

  test('a NameServer whose own records were set back lets every disk in, and goes on from there', () => {
    let known = next(undefined, undefined);
    const old = known;
    for (let i = 0; i < 9; i++) known = next(known, newest(known));
    const shown = newest(known);
    assert.is(isSetBack(old, shown), false);
    const after = next(old, shown);
    assert.is(isSetBack(after, newest(after)), false);
    assert.ok(newest(after).slice(0, 8) > shown.slice(0, 8));
  });

  test('whatever is lost on the way, a disk that keeps what it is given is never refused, and a copy of two registrations ago is', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 30 }), (losses) => {
        let known: Nonces | undefined;
        let held: string | undefined;
        const heldBefore: (string | undefined)[] = [];
        for (const isLost of losses) {
          assert.is(isSetBack(known, held), false);
          known = next(known, held);
          if (isLost) continue;
          heldBefore.push(held);
          held = newest(known);
        }
        if (heldBefore.length < 3) return;
        // It has shown what it was given after that copy was made.
        known = next(known, held);
        assert.is(isSetBack(known, heldBefore.at(-2)), true);
      }),
    );
  });
});
