import { crc32 } from 'node:zlib';
import { z } from 'zod';
import type { Epoch } from '../../common/ids.ts';
import { compareReigns, type Reign, zReign } from '../../common/wire/control.ts';
import { type ObservedServer, Violation } from './observed.ts';

const PROMISE_FILE = 'promise.tfs';
const INCARNATION_FILE = 'incarnation.tfs';
const zPromise = z.object({ reign: zReign });
const zIncarnation = z.object({ incarnation: z.number() });
const NONE: Reign = { epoch: 0 as Epoch, nameserver: 0 };

/** What a mount has promised, and how often it was started: neither ever goes down, nor is told before it is durable. */
export class PromiseLook {
  /** What the process that runs makes durable nobody sees. */
  isDoomed = false;
  readonly #server: ObservedServer;
  #promised = NONE;
  /** Of all disks that this server ever had. */
  #ever = NONE;
  /** All that it ever promised. */
  readonly #reigns = new Set<string>();
  #incarnation = 0;

  constructor(server: ObservedServer) {
    this.#server = server;
  }

  /** @throws Violation I8 */
  look(path: string): void {
    if (path === PROMISE_FILE) {
      const { reign } = zPromise.parse(this.#read(path) ?? { reign: NONE });
      if (compareReigns(reign, this.#promised) < 0)
        throw this.#broken(path, `${text(reign)} after ${text(this.#promised)}`);
      this.#promised = reign;
      this.#reigns.add(text(reign));
      if (compareReigns(reign, this.#ever) > 0) this.#ever = reign;
    } else if (path === INCARNATION_FILE) {
      const { incarnation } = zIncarnation.parse(this.#read(path) ?? { incarnation: 0 });
      if (incarnation < this.#incarnation)
        throw this.#broken(path, `${incarnation} after ${this.#incarnation}`);
      this.#incarnation = incarnation;
    }
  }

  /** Whom it obeys, as its disk says. */
  get reign(): Reign {
    return this.#promised;
  }

  /** Whether it obeys that leader, or did so and promised a later one since. */
  hasPromised(reign: Reign): boolean {
    return this.isDoomed || compareReigns(reign, NONE) === 0 || this.#reigns.has(text(reign));
  }

  /** A NameServer was told so. @throws Violation I8 */
  shown(promise: Reign | undefined): void {
    if (promise === undefined || compareReigns(promise, this.#ever) <= 0) return;
    if (this.isDoomed) this.#ever = promise;
    else
      throw this.#broken(PROMISE_FILE, `${text(promise)} was shown, and only ${text(this.#ever)} is durable`);
  }

  /** @param isDoomed whether a process runs that promises on what is not there any more */
  replaced(isDoomed: boolean): void {
    this.isDoomed = isDoomed;
    this.#promised = NONE;
    this.#incarnation = 0;
  }

  #read(path: string): unknown {
    const bytes = this.#server.medium.durable(path);
    if (bytes === undefined) return undefined;
    const json = bytes.toString('utf8', 9).trimEnd();
    if (Number.parseInt(bytes.toString('utf8', 0, 8), 16) !== crc32(json))
      throw new Violation('durability', { server: this.#server.id, name: path }, 'named before it was whole');
    return JSON.parse(json);
  }

  #broken(name: string, why: string): Violation {
    return new Violation('I8', { server: this.#server.id, name }, why);
  }
}

const text = ({ epoch, nameserver }: Reign): string => `epoch ${epoch} of NameServer ${nameserver}`;
