import { Redis } from 'ioredis';
import { LIMIT_CALL_MS_MAX } from '../limits.ts';

const RECONNECT_MS_MAX = 500;

/**
 * A connection to Redis for counters that nobody may have to wait for. Nothing is queued for a Redis that is not there, a
 * command fails after {@link LIMIT_CALL_MS_MAX} ms, and one that is silent is dialled anew: until it answers again all
 * commands fail at once.
 */
export class CounterRedis extends Redis {
  /** Begins to connect and does not wait for it. */
  static open(url: string): CounterRedis {
    const redis = new CounterRedis(url, {
      enableOfflineQueue: false,
      maxRetriesPerRequest: null,
      autoResendUnfulfilledCommands: false,
      connectTimeout: 2_000,
      commandTimeout: LIMIT_CALL_MS_MAX,
      retryStrategy: (tries) => Math.min(100 * tries, RECONNECT_MS_MAX),
    });
    // Each failed dial is one; whoever asks hears of it by the failure of the command.
    redis.on('error', () => undefined);
    return redis;
  }

  /** To be called when a command has failed. */
  doubt(): void {
    // A goodbye to one that hangs would leave the connection as it is for seconds.
    if (this.status === 'ready') this.stream.destroy();
  }
}
