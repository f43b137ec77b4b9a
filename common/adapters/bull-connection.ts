import { Redis, type RedisOptions } from 'ioredis';

/**
 * A connection for the queue library, which makes copies of it to block on. While Redis is away it sometimes revives a
 * copy that it has just closed, and nobody would end that one: so this one does.
 */
export class BullConnection extends Redis {
  readonly #copies = new Set<Redis>();

  override duplicate(override?: Partial<RedisOptions>): Redis {
    const copy = super.duplicate(override);
    this.#copies.add(copy);
    return copy;
  }

  /** Ends all of them, for good. */
  endAll(): void {
    for (const client of [...this.#copies, this]) {
      client.connect = () => Promise.reject(new Error('this connection was closed'));
      client.disconnect();
    }
  }
}

/** A goodbye of the library waits for a Redis that is not there: not here. Resolves however it ends, within `msMax`. */
export async function forAMoment(msMax: number, goodbye: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, msMax);
  });
  await Promise.race([goodbye.catch(() => undefined), expired]);
  clearTimeout(timer);
}
