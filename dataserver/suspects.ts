import { isTfsError } from '../common/errors.ts';
import type { HostPort, Millis, ServerId } from '../common/ids.ts';
import { SUSPECT_LINK_MS } from '../common/limits.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';
import { EMPTY_BUFFER, Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';

const PING_EVERY_MS = 250;
const PING_MS_MAX = 250;
/** Answers in a row after which a peer that had gone away counts as back. */
const PINGS_TO_TRUST = 3;

interface Suspicion {
  readonly address: HostPort;
  /** Slow peers answer pings: only time clears them. Lost ones are cleared by answering again. */
  readonly slow: boolean;
  readonly until: Millis;
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
    const until = (this.#clock.monotonic() + SUSPECT_LINK_MS) as Millis;
    this.#byId.set(id, { address, slow: isTfsError(error, 'DEADLINE'), until, answers: 0 });
    this.#timer ??= this.#clock.every(PING_EVERY_MS, () => this.#look());
  }

  get all(): ServerId[] {
    this.#expire();
    return [...this.#byId.keys()];
  }

  /** Forgets those that only answered late. */
  pardonSlow(): void {
    for (const [id, { slow }] of this.#byId) if (slow) this.#byId.delete(id);
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #look(): void {
    this.#expire();
    for (const [id, suspicion] of this.#byId) {
      if (suspicion.slow) continue;
      this.#peers.call(suspicion.address, Op.PING, EMPTY_BUFFER, undefined, PING_MS_MAX).then(
        () => {
          if (++suspicion.answers >= PINGS_TO_TRUST && this.#byId.get(id) === suspicion)
            this.#byId.delete(id);
        },
        () => {
          suspicion.answers = 0;
        },
      );
    }
    if (this.#byId.size === 0) this.close();
  }

  #expire(): void {
    const now = this.#clock.monotonic();
    for (const [id, { until }] of this.#byId) if (now >= until) this.#byId.delete(id);
  }
}
