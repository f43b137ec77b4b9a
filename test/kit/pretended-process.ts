import type { HostPort, Millis } from '../../common/ids.ts';
import type { Clock, Timer } from '../../common/seams/clock.ts';
import type { Listener, Net, Stream } from '../../common/seams/net.ts';

/**
 * The network and the clock as one process of several in a test sees them, so that this one alone can be stopped as by
 * SIGSTOP (timers do not fire, what arrives waits in its sockets, time goes on), woken, or killed.
 */
export class PretendedProcess {
  readonly net: Net;
  readonly clock: Clock;
  #state: 'running' | 'stopped' | 'dead' = 'running';
  /** What happens when it is woken, in order. */
  #late: (() => void)[] = [];
  readonly #streams = new Set<Stream>();
  readonly #listeners = new Set<Listener>();

  constructor(net: Net, clock: Clock) {
    this.clock = this.#clockOver(clock);
    this.net = this.#netOver(net);
  }

  get running(): boolean {
    return this.#state === 'running';
  }

  stop(): void {
    this.#state = 'stopped';
  }

  wake(): void {
    this.#state = 'running';
    const late = this.#late;
    this.#late = [];
    for (const event of late) event();
  }

  /** Its connections break, its port is free, nothing of it runs any more. */
  kill(): void {
    this.#state = 'dead';
    this.#late = [];
    for (const stream of this.#streams) stream.destroy();
    for (const listener of this.#listeners) void listener.close();
  }

  #when(event: () => void): void {
    if (this.#state === 'running') event();
    else if (this.#state === 'stopped') this.#late.push(event);
  }

  #clockOver(clock: Clock): Clock {
    const after = (delayMs: number, callback: () => void): Timer => {
      let cancelled = false;
      const timer = clock.after(delayMs, () => this.#when(() => cancelled || callback()));
      return {
        cancel: () => {
          cancelled = true;
          timer.cancel();
        },
      };
    };
    return {
      now: () => clock.now(),
      monotonic: (): Millis => clock.monotonic(),
      after,
      every: (intervalMs, callback) => {
        let cancelled = false;
        let isDue = false;
        const timer = clock.every(intervalMs, () => {
          // Calls are never stacked up.
          if (isDue) return;
          isDue = true;
          this.#when(() => {
            isDue = false;
            if (!cancelled) callback();
          });
        });
        return {
          cancel: () => {
            cancelled = true;
            timer.cancel();
          },
        };
      },
      sleep: (delayMs) => new Promise((resolve) => void after(delayMs, resolve)),
      soon: (callback) => clock.soon(() => this.#when(callback)),
    };
  }

  #netOver(net: Net): Net {
    return {
      connect: async (address, timeoutMs) => this.#streamOver(await net.connect(address, timeoutMs)),
      listen: async (address: HostPort, onStream) => {
        const listener = await net.listen(address, (stream) => {
          const mine = this.#streamOver(stream);
          this.#when(() => onStream(mine));
        });
        this.#listeners.add(listener);
        return listener;
      },
    };
  }

  #streamOver(inner: Stream): Stream {
    const outer: Stream = {
      remote: inner.remote,
      onData: () => undefined,
      onClose: () => undefined,
      onDrain: () => undefined,
      write: (buffers) => (this.#state === 'dead' ? 0 : inner.write(buffers)),
      pause: () => inner.pause(),
      resume: () => inner.resume(),
      end: () => inner.end(),
      destroy: (error) => inner.destroy(error),
    };
    inner.onData = (data) => this.#when(() => outer.onData(data));
    inner.onDrain = () => this.#when(() => outer.onDrain());
    inner.onClose = (error) => {
      this.#streams.delete(inner);
      this.#when(() => outer.onClose(error));
    };
    this.#streams.add(inner);
    return outer;
  }
}
