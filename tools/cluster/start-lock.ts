import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:net';
import { TfsError } from '../../common/errors.ts';

/**
 * Runs `work` while no other start, stop or reload of the same home runs. The lock is an abstract Unix socket, which
 * the kernel frees with the process however it ends; where there is none (not Linux) nothing is locked.
 */
export async function withStartLock<T>(home: string, work: () => Promise<T>): Promise<T> {
  if (process.platform !== 'linux') return work();
  const server = await lock(
    `\0tfs-start-${createHash('sha256').update(home).digest('hex').slice(0, 32)}`,
    home,
  );
  try {
    return await work();
  } finally {
    server.close();
  }
}

function lock(name: string, home: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((connection) => connection.destroy());
    server.once('error', (cause) =>
      reject(
        new TfsError(
          'CONFLICT',
          `another start, stop or reload of ${home} is at work: wait for it to finish`,
          {
            cause,
          },
        ),
      ),
    );
    server.listen(name, () => resolve(server));
  });
}
