/** What alternating rounds have given: the machine changes under a benchmark, so only what ran side by side is compared. */
export class Rounds {
  readonly #values = new Map<string, number[]>();

  add(name: string, value: number): void {
    const values = this.#values.get(name);
    if (values === undefined) this.#values.set(name, [value]);
    else values.push(value);
  }

  median(name: string): number {
    return medianOf(this.#values.get(name) ?? []);
  }

  /** Of each round by itself: `0.93 x (0.90-0.95)`. */
  ratio(name: string, base: string): string {
    const bases = this.#values.get(base) ?? [];
    const ratios = (this.#values.get(name) ?? []).map((value, i) => value / bases[i]!);
    const [least, most] = [Math.min(...ratios), Math.max(...ratios)];
    return `${medianOf(ratios).toFixed(2)} x (${least.toFixed(2)}-${most.toFixed(2)})`;
  }
}

export function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
