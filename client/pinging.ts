import { TfsError } from '../common/errors.ts';
import type { HostPort, ServerId } from '../common/ids.ts';
import { PROBE_MS_MAX } from '../common/limits.ts';
import { EMPTY_BUFFER, Op } from '../common/wire/messages.ts';
import type { Caller } from './caller.ts';

/** As many as tell whether a silent server is the only one. */
const OTHERS = 2;

export interface Servers {
  readonly weighted: readonly { readonly id: ServerId }[];
  addressOf(server: ServerId): HostPort | undefined;
  isUp(server: ServerId): boolean;
}

/** Asks DataServers for a sign of life: the process itself answers, whatever its disk does. */
export class Pinging {
  onAnswer: (server: ServerId) => void = () => undefined;
  readonly #caller: Caller;
  readonly #servers: Servers;
  #turn = 0;

  constructor(caller: Caller, servers: Servers) {
    this.#caller = caller;
    this.#servers = servers;
  }

  /** @throws TfsError when there is none */
  async ping(server: ServerId): Promise<void> {
    const address = this.#servers.addressOf(server);
    if (address === undefined) throw new TfsError('UNAVAILABLE', 'not in the cluster map');
    await this.#caller.call(address, Op.PING, EMPTY_BUFFER, undefined, PROBE_MS_MAX);
    this.onAnswer(server);
  }

  /** A few others, not the same ones each time. */
  pingOthers(server: ServerId): void {
    const others = this.#servers.weighted.filter(({ id }) => id !== server && this.#servers.isUp(id));
    for (let i = 0; i < Math.min(OTHERS, others.length); i++) {
      const { id } = others[this.#turn++ % others.length]!;
      // Its silence is an answer, too.
      this.ping(id).catch(() => undefined);
    }
  }
}
