import { TfsError } from '../../common/errors.ts';
import { formatHostPort, type HostPort } from '../../common/ids.ts';
import type { Listener, Net } from '../../common/seams/net.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { Connection, type SimStream } from './connection.ts';
import type { SimProcess } from './process.ts';
import type { Scheduler } from './scheduler.ts';

/** What the network does to whatever crosses it, until told otherwise. */
export interface Weather {
  /** One way, virtual ms. */
  readonly delayMs: number;
  /** Share of messages that take `slowMs` longer, and so are overtaken by those on other connections. */
  readonly slow: number;
  readonly slowMs: number;
  /** Share of messages with which their connection breaks: before them, in the middle of them, or behind them. */
  readonly cut: number;
  /** Share of connections that are refused although somebody listens. */
  readonly refuse: number;
}

export const FAIR: Weather = { delayMs: 0.3, slow: 0, slowMs: 0, cut: 0, refuse: 0 };

interface Port {
  readonly process: SimProcess;
  readonly onStream: (stream: SimStream) => void;
}

/**
 * The network between the processes of a simulated cluster: connections that deliver in order or break, as TCP does.
 * A message that is lost shows as a connection that breaks or that stays silent; one that comes twice as a call that is
 * made again after its answer was lost; disorder happens between connections.
 */
export class SimNetwork {
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  weather: Weather = FAIR;
  readonly connections = new Set<Connection>();
  /** Hosts from and to which nothing passes now: `from>to`. */
  readonly #blocked = new Set<string>();
  /** Additional ms one way, by `from>to`. */
  readonly #late = new Map<string, number>();
  readonly #down = new Set<string>();
  readonly #ports = new Map<string, Port>();
  #nextPort = 40_000;

  constructor(scheduler: Scheduler, seed: number) {
    this.scheduler = scheduler;
    this.random = new SeededRandom(seed);
  }

  /** The network as this process sees it. */
  of(process: SimProcess): Net {
    process.onKilled.push((silently) => this.#gone(process, silently));
    return {
      connect: (address, timeoutMs) => this.#connect(process, address, timeoutMs),
      listen: (address, onStream) => this.#listen(process, address, onStream),
    };
  }

  /** One way only; what is on its way waits. */
  block(from: string, to: string): void {
    this.#blocked.add(`${from}>${to}`);
  }

  unblock(from: string, to: string): void {
    if (!this.#blocked.delete(`${from}>${to}`)) return;
    for (const connection of this.connections) connection.unblocked(from, to);
  }

  /** The whole machine: one without power answers nothing, one with it refuses what it does not know. */
  power(host: string, isOn: boolean): void {
    if (isOn) this.#down.delete(host);
    else this.#down.add(host);
  }

  isUp(host: string): boolean {
    return !this.#down.has(host);
  }

  delay(from: string, to: string, ms: number): void {
    if (ms === 0) this.#late.delete(`${from}>${to}`);
    else this.#late.set(`${from}>${to}`, ms);
  }

  heal(): void {
    this.weather = FAIR;
    this.#late.clear();
    for (const pair of [...this.#blocked]) {
      const [from, to] = pair.split('>') as [string, string];
      this.unblock(from, to);
    }
  }

  isBlocked(from: string, to: string): boolean {
    return this.#blocked.has(`${from}>${to}`);
  }

  /** @returns virtual ms that the next message takes one way */
  latency(from: string, to: string): number {
    const { delayMs, slow, slowMs } = this.weather;
    const late = slow > 0 && this.random.float() < slow ? slowMs * this.random.float() : 0;
    return delayMs * (0.5 + this.random.float()) + late + (this.#late.get(`${from}>${to}`) ?? 0);
  }

  #connect(process: SimProcess, address: HostPort, timeoutMs: number): Promise<SimStream> {
    const where = formatHostPort(address);
    return new Promise((resolve, reject) => {
      let isOver = false;
      const lost = (why: string) => {
        if (isOver) return;
        isOver = true;
        this.scheduler.cancel(timer);
        reject(new TfsError('CONNECTION_LOST', `${where}: ${why}`));
      };
      const timer = process.at(timeoutMs, 'dial timeout', () => lost(`no connection within ${timeoutMs} ms`));
      const there = this.latency(process.host, address.host);
      this.scheduler.at(there, undefined, `syn ${where}`, () => {
        if (isOver || !process.isAlive) return;
        if (this.isBlocked(process.host, address.host) || this.isBlocked(address.host, process.host)) return;
        if (!this.isUp(address.host)) return;
        const port = this.#ports.get(where);
        const back = this.latency(address.host, process.host);
        const isRefused = this.weather.refuse > 0 && this.random.float() < this.weather.refuse;
        if (port === undefined || isRefused) {
          process.at(back, 'refused', () => lost('refused'));
          return;
        }
        const remote = { host: process.host, port: this.#nextPort++ };
        const connection = new Connection({
          network: this,
          client: process,
          server: port.process,
          remote,
          address,
        });
        this.connections.add(connection);
        // The kernel accepts; the process hears of it when it looks.
        port.process.at(0, 'accept', () => {
          if (!connection.isOver) port.onStream(connection.server);
        });
        process.at(back, 'connected', () => {
          if (isOver) {
            connection.client.destroy();
            return;
          }
          isOver = true;
          this.scheduler.cancel(timer);
          resolve(connection.client);
        });
      });
    });
  }

  async #listen(
    process: SimProcess,
    address: HostPort,
    onStream: (stream: SimStream) => void,
  ): Promise<Listener> {
    const bound = address.port === 0 ? { host: address.host, port: this.#nextPort++ } : address;
    const where = formatHostPort(bound);
    if (this.#ports.has(where))
      throw new TfsError('CONFLICT', `port ${bound.port} on ${bound.host} is taken by another process`);
    this.#ports.set(where, { process, onStream });
    return {
      address: bound,
      close: async () => {
        if (this.#ports.get(where)?.process === process) this.#ports.delete(where);
      },
    };
  }

  #gone(process: SimProcess, silently: boolean): void {
    for (const [where, port] of this.#ports) if (port.process === process) this.#ports.delete(where);
    for (const connection of this.connections) connection.processGone(process, silently);
  }
}
