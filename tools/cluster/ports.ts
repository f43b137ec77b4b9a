import { createServer } from 'node:net';
import type { PortUse } from '../../common/config.ts';

export interface TakenPort extends PortUse {
  /** What the system said. */
  readonly why: string;
}

/** Tries every port once, so that all that are taken are named together. */
export async function takenPorts(uses: readonly PortUse[]): Promise<TakenPort[]> {
  const tried = await Promise.all(uses.map(async (use) => ({ ...use, why: await tryPort(use) })));
  return tried.filter((use): use is TakenPort => use.why !== undefined);
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
