import { createHash, createHmac, randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import { ContentKeys, rank, spread } from '../../client/rendezvous.ts';
import type { ServerId } from '../../common/ids.ts';
import { describe } from '../kit/suite.ts';

const KEY = Buffer.alloc(32, 7);
const content = (i: number, key = KEY) =>
  new ContentKeys(key).of(createHash('sha1').update(String(i)).digest());
const servers = (weights: readonly number[]) =>
  weights.map((weight, i) => ({ id: (i + 1) as ServerId, weight }));
const N = 12_000;

function shares(weights: readonly number[]): number[] {
  const counts = weights.map(() => 0);
  for (let i = 0; i < N; i++) counts[rank(content(i), servers(weights))[0]! - 1]!++;
  return counts.map((count) => count / N);
}

describe('rendezvous hashing', (test) => {
  test('gives every server its share of the contents', () => {
    const [a, b, c] = shares([1, 1, 2]) as [number, number, number];
    assert.ok(Math.abs(a - 0.25) < 0.02, `share of 1: ${a}`);
    assert.ok(Math.abs(b - 0.25) < 0.02, `share of 2: ${b}`);
    assert.ok(Math.abs(c - 0.5) < 0.02, `share of 3: ${c}`);
  });

  test('ranks every server once, the same way whatever their order', () => {
    for (let i = 0; i < 200; i++) {
      const ranked = rank(content(i), servers([1, 2, 3, 4]));
      assert.equal([...ranked].sort(), [1, 2, 3, 4]);
      assert.equal(rank(content(i), servers([1, 2, 3, 4]).reverse()), ranked);
    }
  });

  test('a content key is the HMAC-SHA256 of the SHA-1', () => {
    for (const length of [0, 1, 32, 64, 65, 200]) {
      const key = randomBytes(length);
      const keys = new ContentKeys(key);
      for (let i = 0; i < 3; i++) {
        const sha1 = randomBytes(20);
        const digest = createHmac('sha256', key).update(sha1).digest();
        assert.equal(keys.of(sha1), { high: digest.readUInt32LE(0), low: digest.readUInt32LE(4) });
      }
    }
  });

  test('moves to a new server only what goes to it, and in the order of before', () => {
    let moved = 0;
    for (let i = 0; i < N; i++) {
      const before = rank(content(i), servers([1, 1, 1]));
      const after = rank(content(i), servers([1, 1, 1, 1]));
      assert.equal(
        after.filter((id) => id !== 4),
        before,
      );
      if (after[0] === 4) moved++;
    }
    assert.ok(Math.abs(moved / N - 0.25) < 0.02, `moved ${moved / N}`);
  });

  test('second choices spread too: a server that fails does not burden one other alone', () => {
    const seconds = new Map<number, number>();
    for (let i = 0; i < N; i++) {
      const [first, second] = rank(content(i), servers([1, 1, 1]));
      if (first === 1) seconds.set(second!, (seconds.get(second!) ?? 0) + 1);
    }
    const [x, y] = [seconds.get(2)!, seconds.get(3)!];
    assert.ok(Math.abs(x - y) / (x + y) < 0.06, `${x} and ${y}`);
  });

  test('depends on the key, so that nobody without it can aim', () => {
    let same = 0;
    for (let i = 0; i < 2000; i++) {
      const other = rank(content(i, Buffer.alloc(32, 8)), servers([1, 1, 1]));
      if (other[0] === rank(content(i), servers([1, 1, 1]))[0]) same++;
    }
    assert.ok(Math.abs(same / 2000 - 1 / 3) < 0.05, `${same} of 2000 agree`);
  });

  test('readers of different pictures start at different replicas', () => {
    const counts = [0, 0, 0];
    for (let file = 0; file < 3000; file++) counts[spread(0x10001, file, 3)]!++;
    for (const count of counts) assert.ok(Math.abs(count - 1000) < 150, counts.join());
  });
});
