import type { SeededRandom } from './seeded-random.ts';

const UNITS_MAX = 16;

/** Whether {@link subsets} gives all of them. */
export const isExhaustive = (n: number, budget: number): boolean => n <= UNITS_MAX && 1 << n <= budget;

/** All subsets of 0..n-1 if there are no more than the budget; else those that show most, and random ones. */
export function* subsets(n: number, budget: number, random: SeededRandom): Generator<readonly number[]> {
  const units = Array.from({ length: n }, (_, i) => i);
  if (isExhaustive(n, budget)) {
    for (let mask = 0; mask < 1 << n; mask++) yield units.filter((i) => (mask >> i) % 2 === 1);
    return;
  }
  const candidates: (readonly number[])[] = [[], units];
  for (let i = 0; i < Math.max(1, budget / 6); i++) {
    const cut = random.below(n + 1);
    candidates.push(units.slice(0, cut), units.slice(cut));
    const one = random.below(n);
    candidates.push(
      [one],
      units.filter((unit) => unit !== one),
    );
  }
  while (candidates.length < budget) {
    const share = random.float();
    candidates.push(units.filter(() => random.float() < share));
  }
  const seen = new Set<string>();
  for (const set of candidates.slice(0, Math.max(2, budget))) {
    const key = set.join();
    if (!seen.has(key)) yield set;
    seen.add(key);
  }
}
