import { setTimeout as sleep } from 'node:timers/promises';
import { toTfsError } from '../../common/errors.ts';
import type { BlockId } from '../../common/ids.ts';
import { type ClusterProbe, keyOf } from './cluster-probe.ts';
import type { History, ReplicaAnswer } from './history.ts';
import { type CheckOptions, checkReplicas, type Violation } from './history-checker.ts';

const AT_ONCE = 64;
const LOOK_AGAIN_MS = 500;

export interface ReadBack {
  readonly violations: readonly Violation[];
  readonly names: number;
  readonly replicas: number;
  /** Until every replica of every name answered as it should. */
  readonly settledMs: number;
}

/**
 * Reads names on every replica that the leader knows, past the gateways and whether deleted or not, until all of them
 * are as the history says. Replicas may need a while after a fault: what is still wrong after `withinMs` is wrong. Wrong
 * bytes are wrong at once.
 */
export async function readBack(
  probe: ClusterProbe,
  history: History,
  {
    names = [...history.names],
    withinMs,
    ...checks
  }: CheckOptions & { readonly names?: readonly string[]; readonly withinMs: number },
): Promise<ReadBack> {
  const startedAt = performance.now();
  const phantoms: Violation[] = [];
  let pending = names;
  let replicas = 0;
  for (;;) {
    const violations = await look(pending);
    phantoms.push(...violations.filter(({ kind }) => kind === 'phantom'));
    const settledMs = performance.now() - startedAt;
    pending = [...new Set(violations.map(({ name }) => name))];
    if (pending.length === 0 || settledMs > withinMs) {
      const others = violations.filter(({ kind }) => kind !== 'phantom');
      return { violations: [...phantoms, ...others], names: names.length, replicas, settledMs };
    }
    await sleep(LOOK_AGAIN_MS);
  }

  async function look(some: readonly string[]): Promise<Violation[]> {
    try {
      const answers = await askAll(probe, some);
      if (some === names) replicas = answers.length;
      return checkReplicas(history, answers, { ...checks, atMs: performance.now(), names: some });
    } catch (error) {
      // No leader yet, or it did not answer.
      const why = toTfsError(error).message;
      return some.map((name) => ({ kind: 'lost', name, why }));
    }
  }
}

async function askAll(probe: ClusterProbe, names: readonly string[]): Promise<ReplicaAnswer[]> {
  const blocks = [...new Set(names.map((name) => keyOf(name).block))];
  const locations = await probe.locate(blocks as BlockId[]);
  const answers: ReplicaAnswer[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < names.length) {
      const name = names[next++]!;
      for (const server of locations.get(keyOf(name).block)?.members ?? [])
        answers.push(await probe.readReplica(server, name));
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, names.length) }, worker));
  return answers;
}
