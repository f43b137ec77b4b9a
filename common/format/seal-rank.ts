/** What of a SEAL decides between two of them. */
export interface SealRank {
  readonly length: number;
  readonly slots: number;
  readonly epoch: number;
  /** It is known to be on every member: it may have been relied upon. Never, where it is absent. */
  readonly complete?: boolean | undefined;
  /** Records that verified on no replica when it was decided; none where it is absent. */
  readonly lost?: number | undefined;
}

/**
 * Two leaders may each have sealed a block without hearing of the other, each on the members that answered it. Both
 * lengths cover everything that was acknowledged; all replicas have to agree on one.
 *
 * Of the same length, the one that lost fewer records. Else one that is complete, because names were given out on the
 * strength of it; else the one of the newest epoch; of one epoch, whose leader cannot have known of the first when it
 * decided again, the longer one.
 *
 * @returns positive when `a` stands above `b`, negative when below, 0 when they are as good as each other
 */
export function compareSeals(a: SealRank, b: SealRank): number {
  if (a.length === b.length && a.slots === b.slots) {
    const lost = (b.lost ?? 0) - (a.lost ?? 0);
    if (lost !== 0) return lost;
  }
  return (
    Number(a.complete ?? false) - Number(b.complete ?? false) || a.epoch - b.epoch || a.length - b.length
  );
}
