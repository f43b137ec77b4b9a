import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchContext } from '../bench.ts';
import { Child, nodeArgs, sibling } from '../child.ts';
import type { How } from './bare-maker.ts';

/** Processes that make renditions of the same originals, each busy all the time. */
export class BareMakers {
  readonly #children: readonly Child[];

  static async start(
    context: BenchContext,
    originals: readonly Buffer[],
    count: number,
  ): Promise<BareMakers> {
    const paths = originals.map((bytes, i) => {
      const path = join(context.directory, `original-${i}.jpg`);
      writeFileSync(path, bytes);
      return path;
    });
    const children = await Promise.all(
      Array.from({ length: count }, (_, i) =>
        Child.start({
          name: `bare-maker-${i}`,
          command: process.execPath,
          args: [...nodeArgs(sibling(import.meta, 'bare-maker')), ...paths],
          cwd: process.cwd(),
          directory: context.directory,
        }),
      ),
    );
    context.defer(() => Promise.all(children.map((child) => child.stop())));
    return new BareMakers(children);
  }

  private constructor(children: readonly Child[]) {
    this.#children = children;
  }

  cpuMicros(): number {
    return this.#children.reduce((sum, child) => sum + child.cpuMicros(), 0);
  }

  /** Makes `count` renditions from the one numbered `first` on. @returns renditions a second */
  async make(how: How, first: number, count: number): Promise<number> {
    let next = first;
    const startedAt = performance.now();
    const busy = async (child: Child) => {
      while (next < first + count) {
        const answer = child.message<{ n: number }>();
        child.send({ n: next++, how });
        await answer;
      }
    };
    await Promise.all(this.#children.map(busy));
    return count / ((performance.now() - startedAt) / 1000);
  }
}
