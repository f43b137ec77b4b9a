import { TfsError } from '../common/errors.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';

export interface SignsOfLife {
  readonly clock: Clock;
  /** Whom it is waited for, for the message. */
  readonly where: string;
  /** A server that is silent for this long is given up, if others are not. */
  readonly silentMs: number;
  /** After this without a word it is asked for one, and others are. */
  readonly pingMs: number;
  ping(): Promise<void>;
  pingOthers(): void;
  /** Monotonic time at which it last said anything. */
  heardAt(): number;
  /**
   * Whether anybody else has said anything after that moment. Else it may be this process that is slow, or a cluster that
   * has too much to do: to ask another server then would give it more.
   */
  isOtherHeard(since: number): boolean;
}

const LOOK_AGAIN_MS = 100;

/**
 * Waits for an answer that may rightly take long, as long as the server shows that it lives. A server that was stopped,
 * or that the network does not reach, is given up early; one that is at work is not.
 *
 * @throws TfsError DEADLINE when it has gone silent; what was asked of it may still happen
 */
export function whileAlive<T>(work: Promise<T>, signs: SignsOfLife): Promise<T> {
  const { clock, silentMs, pingMs } = signs;
  return new Promise((resolve, reject) => {
    let timer: Timer;
    let isAsking = false;
    let lastAt: number = clock.monotonic();
    const settle = (): void => timer.cancel();

    const look = (): void => {
      lastAt = Math.max(lastAt, signs.heardAt());
      const silentFor = clock.monotonic() - lastAt;
      if (silentFor >= silentMs && signs.isOtherHeard(lastAt)) {
        reject(
          new TfsError(
            'DEADLINE',
            `${signs.where} has shown no sign of life for ${Math.round(silentFor)} ms`,
          ),
        );
        return;
      }
      if (silentFor >= pingMs && !isAsking) {
        isAsking = true;
        signs.pingOthers();
        signs.ping().then(
          () => {
            isAsking = false;
            lastAt = clock.monotonic();
          },
          // Not asked again: what does not answer this one is waited for until its time is over.
          () => undefined,
        );
      }
      const nextMs = silentFor < pingMs ? pingMs - silentFor : silentMs - silentFor;
      timer = clock.after(Math.max(LOOK_AGAIN_MS, nextMs), look);
    };
    timer = clock.after(pingMs, look);
    work.then(
      (value) => {
        settle();
        resolve(value);
      },
      (error: unknown) => {
        settle();
        reject(error);
      },
    );
  });
}
