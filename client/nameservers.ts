import type { HostPort } from '../common/ids.ts';
import { NAMESERVER_CALL_MS_MAX } from '../common/limits.ts';
import type { Caller, CallReply } from './caller.ts';

/** The NameServers of the cluster, the one last seen to lead first. Knows nothing about what is asked. */
export class NameServers {
  #ordered: readonly HostPort[];
  readonly #caller: Caller;

  constructor(caller: Caller, addresses: readonly HostPort[]) {
    this.#caller = caller;
    this.#ordered = addresses;
  }

  get ordered(): readonly HostPort[] {
    return this.#ordered;
  }

  leads(address: HostPort): void {
    if (this.#ordered[0] === address) return;
    this.#ordered = [address, ...this.#ordered.filter((other) => other !== address)];
  }

  async call(address: HostPort, op: number, header: Buffer): Promise<CallReply> {
    return this.#caller.call(address, op, header, undefined, NAMESERVER_CALL_MS_MAX);
  }
}
