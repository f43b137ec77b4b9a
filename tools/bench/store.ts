import { mkdirSync } from 'node:fs';
import type { BenchContext } from './bench.ts';
import { Child, nodeArgs, sibling } from './child.ts';
import type { Filled, FillOrder } from './store-fill.ts';
import type { StoreFigures } from './store-load.ts';

/** Fills a mount with sealed blocks, in a process of its own. */
export async function fillStore(context: BenchContext, order: FillOrder): Promise<Filled> {
  mkdirSync(order.directory, { recursive: true });
  context.say(`writing ${order.files} records of ${order.size} B to ${order.directory}`);
  return run<Filled>(context, 'store-fill', [], [JSON.stringify(order)]);
}

/** Opens it in a fresh process, loads every index and measures that. */
export function loadStore(context: BenchContext, order: FillOrder): Promise<StoreFigures> {
  const args = ['store', order.directory, order.clusterUuid, String(order.members[0])];
  return run<StoreFigures>(context, 'store-load', ['--expose-gc'], args);
}

export const loadObjects = (context: BenchContext, count: number): Promise<StoreFigures> =>
  run<StoreFigures>(context, 'store-load', ['--expose-gc'], ['objects', String(count)]);

async function run<T>(context: BenchContext, module: string, flags: string[], args: string[]): Promise<T> {
  const child = Child.spawn({
    name: module,
    command: process.execPath,
    args: [...flags, ...nodeArgs(sibling(import.meta, module)), ...args],
    cwd: process.cwd(),
    directory: context.directory,
  });
  context.defer(() => child.stop());
  return child.message<T>();
}
