import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PortUse } from '../../common/config.ts';

export interface TakenPort extends PortUse {
  /** What the system said. */
  readonly why: string;
}

const AGAIN_MS = 100;

/**
 * Tries every port, so that all that are taken are named together.
 *
 * @param patienceMs those that are taken are tried again for so long: a process that was killed has gone from `/proc`, or
 *   has lost its directory there, some time before the kernel has ended the last of its threads and closed what it listens on
 */
export async function takenPorts(uses: readonly PortUse[], patienceMs = 0): Promise<TakenPort[]> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const tried = await Promise.all(uses.map(async (use) => ({ ...use, why: await tryPort(use) })));
    const taken = tried.filter((use): use is TakenPort => use.why !== undefined);
    if (taken.length === 0 || performance.now() >= deadline) return taken;
    await sleep(AGAIN_MS);
  }
}

function tryPort({ host, port }: PortUse): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code === 'EADDRINUSE' ? 'taken by another process' : error.message),
    );
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}
