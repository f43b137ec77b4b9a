import type { BlockId, ServerId } from '../../common/ids.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import type { NameServer } from '../../nameserver/nameserver.ts';

/** What the observer asks of a disk: what a power failure at this moment would leave for sure. */
export interface ObservedMedium {
  /** Of a durable name, the durable bytes. Not kept and not changed by the observer. */
  durable(path: string): Buffer | undefined;
  durablePaths(): string[];
  /** What a process reads under that name now, also what the page cache alone has. Used at once, and not changed. */
  readable(path: string): Buffer | undefined;
  /** Called whenever the durable bytes behind a durable name have changed, or the name has. */
  onDurable: ((path: string) => void) | undefined;
  /** Files that were damaged on purpose: nothing is expected of them until they are replaced. */
  readonly damaged: { has(path: string): boolean };
}

/** What it looks at of a process that serves a mount. */
export interface ObservedProcess {
  readonly store: Pick<BlockStore, 'info' | 'readOnly'>;
}

/** One DataServer id with its mount, whichever processes come and go on it. */
export interface ObservedServer<Live extends ObservedProcess = ObservedProcess> {
  readonly id: ServerId;
  /** What fails together. */
  readonly domain: string;
  readonly medium: ObservedMedium;
  /** Undefined while no process runs. */
  readonly live: Live | undefined;
}

/** A NameServer, as far as it says what it was promised. */
export interface ObservedNameServer {
  readonly id: number;
  readonly live: { readonly members: Pick<NameServer['members'], 'known' | 'get'> } | undefined;
}

/** The invariants of the design by their numbers; `durability` for the order in which things have to become durable. */
export type InvariantName =
  | 'I1'
  | 'I2'
  | 'I3'
  | 'I4'
  | 'I5'
  | 'I6'
  | 'I7'
  | 'I8'
  | 'I9'
  | 'I10'
  | 'I11'
  | 'I12'
  | 'I13'
  | 'I14'
  | 'I15'
  | 'I16'
  | 'durability'
  | 'convergence';

/** Where an invariant was broken. */
export interface Place {
  readonly server?: number;
  readonly block?: BlockId;
  /** Of a picture, or of a file. */
  readonly name?: string;
}

/** An invariant that does not hold: the store is wrong, or the one who checks it. */
export class Violation extends Error {
  readonly kind: InvariantName;
  readonly place: Place;

  constructor(kind: InvariantName, place: Place, why: string) {
    const at = Object.entries(place).map(([what, value]) => `${what} ${value}`);
    super(`${kind}: ${[...at, why].join(': ')}`);
    this.name = 'Violation';
    this.kind = kind;
    this.place = place;
  }
}
