import { isTfsError, type TfsError } from '../../common/errors.ts';
import type { SeededRandom } from '../kit/seeded-random.ts';
import type { SimNetwork } from './network.ts';
import { SimProcess, type WallClock } from './process.ts';

/** A server that can be started again and again on the same machine; what it stores is its owner's. */
export interface Service {
  close(): Promise<void>;
}

export interface NodeOptions<S extends Service> {
  readonly name: string;
  readonly host: string;
  readonly wall: WallClock;
  readonly network: SimNetwork;
  readonly random: SeededRandom;
  /** What its main does, from finding its disk on. */
  readonly boot: (process: SimProcess, node: SimNode<S>) => Promise<S>;
  /** What a life leaves behind is put into the state that the next one finds. */
  readonly onGone: (how: 'killed' | 'power' | 'ended') => void;
}

/** The process manager waits so long before it starts a process again that ended. */
const RESTART_MS = 300;

/** One server of the cluster over all its lives, as a process manager keeps it running. */
export class SimNode<S extends Service> {
  readonly name: string;
  readonly host: string;
  readonly #options: NodeOptions<S>;
  process: SimProcess | undefined;
  /** While it serves. */
  live: S | undefined;
  /** It refused to start: nobody starts it again before something about it has changed. */
  refused: TfsError | undefined;
  /** It is not started again by itself. */
  isHeld = false;
  lives = 0;
  /** Its next lives end after so many events each. */
  fuses: number[] = [];

  constructor(options: NodeOptions<S>) {
    this.#options = options;
    this.name = options.name;
    this.host = options.host;
  }

  get isRunning(): boolean {
    return this.process?.isAlive === true;
  }

  start(): void {
    const { network, random, wall, boot } = this.#options;
    if (this.isRunning || this.refused !== undefined || !network.isUp(this.host)) return;
    this.lives++;
    // Crystals differ by some hundred parts in a million; a few more make bounds that are too tight show.
    const rate = 1 + (random.float() - 0.5) * 0.004;
    const process = new SimProcess({
      name: `${this.name}.${this.lives}`,
      host: this.host,
      scheduler: network.scheduler,
      seed: random.u32(),
      wall,
      rate,
    });
    this.process = process;
    process.scheduler.note(`${process.name} starts`);
    this.light(this.fuses.shift());
    process.at(1, 'boot', () => {
      boot(process, this).then(
        (service) => {
          this.live = service;
        },
        (error: unknown) => this.#failed(process, error),
      );
    });
  }

  /** SIGKILL, and the process manager starts it again after a while. */
  kill(restartMs = RESTART_MS): void {
    this.#end('killed');
    if (!this.isHeld) this.startIn(restartMs);
  }

  /** It is killed after so many of its events, or of those of them that are called so. */
  light(events: number | undefined, of?: RegExp): void {
    const { process } = this;
    if (process !== undefined && events !== undefined)
      process.fuse = { events, of, burnt: () => this.process === process && this.kill() };
  }

  /** The machine loses its power; whoever restores that starts it again. */
  powerOff(): void {
    this.#end('power');
  }

  /** As `npm stop` does. It is started again when it has ended, unless it is held. */
  stop(): void {
    const { process, live } = this;
    if (process === undefined || !process.isAlive) return;
    if (live === undefined) {
      this.#end('killed');
      return;
    }
    this.live = undefined;
    process.scheduler.note(`${process.name} is asked to stop`);
    const end = (how: 'ended' | 'killed') => {
      if (this.process !== process || !process.isAlive) return;
      this.#end(how);
      if (!this.isHeld) this.startIn(RESTART_MS);
    };
    const ended = () => end('ended');
    process.at(0, 'stop', () => void live.close().then(ended, ended));
    // A process manager has its patience.
    process.scheduler.at(20_000, undefined, 'kill after stop', () => end('killed'));
  }

  startIn(ms: number): void {
    this.#options.network.scheduler.at(ms, undefined, `start ${this.name}`, () => {
      if (!this.isHeld) this.start();
    });
  }

  /** The process ends itself with this: a later start needs somebody's hand only when it was refused. */
  exit(error: unknown): void {
    const process = this.process;
    if (process !== undefined) this.#failed(process, error);
  }

  #failed(process: SimProcess, error: unknown): void {
    if (this.process !== process || !process.isAlive) return;
    if (!isTfsError(error)) {
      process.scheduler.fail(error);
      return;
    }
    process.scheduler.note(`${process.name} ends: ${error.code} ${error.message}`);
    this.#end('killed');
    if (isTfsError(error, 'REFUSED')) this.refused = error;
    else this.startIn(RESTART_MS);
  }

  #end(how: 'killed' | 'power' | 'ended'): void {
    const { process } = this;
    this.live = undefined;
    if (process === undefined || !process.isAlive) {
      if (how === 'power') this.#options.onGone(how);
      return;
    }
    process.kill(how === 'power');
    this.#options.onGone(how);
  }
}
