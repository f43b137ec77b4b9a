/**
 * A lock that at most one NameServer is meant to hold, somewhere outside. It decides who *tries* to lead, and nothing
 * else hangs on it: it may forget who holds it, go back in time, be held by two at once, or not answer.
 *
 * Contract:
 * - A call settles within {@link LOCK_CALL_MS_MAX}: rejected with UNAVAILABLE when the store did not answer. What was
 *   asked may have been done all the same.
 * - The lock falls free by itself, by the store's own clock, when its holder has not taken it again in time.
 * - The store also keeps the highest epoch it was ever told: a hint where the next reign must start.
 */
export interface LockStore {
  /** Takes the lock when it is free, or keeps it when `owner` holds it. */
  take(ask: LockAsk): Promise<LockAnswer>;
  /** Frees the lock if `owner` holds it. */
  release(owner: string): Promise<void>;
  close(): Promise<void>;
}

export interface LockAsk {
  /** A name for one life of one process, so that nobody inherits the lock of its predecessor. */
  readonly owner: string;
  readonly ttlMs: number;
  /** Highest epoch the asker knows. */
  readonly epoch: number;
}

export interface LockAnswer {
  readonly granted: boolean;
  /** Highest epoch anyone told the store, as far as it remembers. */
  readonly epoch: number;
}
