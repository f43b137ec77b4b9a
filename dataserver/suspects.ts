import { isTfsError } from '../common/errors.ts';
import type { HostPort, Millis, ServerId } from '../common/ids.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import { EMPTY_BUFFER, Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';

const PING_EVERY_MS = 250;
const PING_MS_MAX = 250;
/** Answers in a row after which a peer that had gone away counts as back. */
const PINGS_TO_TRUST = 3;

interface Suspicion {
  readonly address: HostPort;
  /** Slow peers answer pings: only time clears them. Lost ones are cleared by answering again. */
  slow: boolean;
  readonly until: Millis;
  /** Pings answered in a row. */
  answers: number;
}

/** Peers that failed a write in the last minute: no new block is placed on them meanwhile. */
export class Suspects {
  readonly #clock: Clock;
  readonly #peers: Peers;
  readonly #byId = new Map<ServerId, Suspicion>();
  #timer: Timer | undefined;

  constructor({ clock, peers }: { clock: Clock; peers: Peers }) {
    this.#clock = clock;
    this.#peers = peers;
  }

  /** @param error why the peer failed: a missed deadline makes it slow, anything else lost */
  suspect(id: ServerId, address: HostPort, error: unknown): void {
    const until = (this.#clock.monotonic() + tunable.suspectLinkMs) as Millis;
    this.#byId.set(id, { address, slow: isTfsError(error, 'DEADLINE'), until, answers: 0 });
    this.#timer ??= this.#clock.every(PING_EVERY_MS, () => this.#look());
    this.#ping(id);
  }

  get all(): ServerId[] {
    this.#expire();
    return [...this.#byId.keys()];
  }

  /** Forgets those that only answered late; one that does not even answer a ping is no better than none. */
  pardonSlow(): void {
    for (const [id, { slow, answers }] of this.#byId) if (slow && answers > 0) this.#byId.delete(id);
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #look(): void {
    this.#expire();
    for (const id of this.#byId.keys()) this.#ping(id);
    if (this.#byId.size === 0) this.close();
  }

  #ping(id: ServerId): void {
    const suspicion = this.#byId.get(id);
    if (suspicion === undefined) return;
    this.#peers.call(suspicion.address, Op.PING, EMPTY_BUFFER, undefined, PING_MS_MAX).then(
      () => {
        suspicion.answers++;
        const isBack = !suspicion.slow && suspicion.answers >= PINGS_TO_TRUST;
        if (isBack && this.#byId.get(id) === suspicion) this.#byId.delete(id);
      },
      () => {
        suspicion.answers = 0;
        // Its process is stopped, or gone: it was not the disk that made it late.
        suspicion.slow = false;
      },
    );
  }

  #expire(): void {
    const now = this.#clock.monotonic();
    for (const [id, { until }] of this.#byId) if (now >= until) this.#byId.delete(id);
  }
}
