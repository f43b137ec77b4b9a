/**
 * `at risk`: a picture that was acknowledged has one copy or none that can be had now, or uploads are refused, or damage
 * was found that copies could not mend. `degraded`: one more failure is survived. `note`: nothing is wrong.
 */
export type Level = 'at risk' | 'degraded' | 'note';

export interface Finding {
  /** For scripts, and the heading in docs/operations.md. */
  readonly code: string;
  readonly level: Level;
  /** Of what {@link what} speaks of: blocks, servers, processes. */
  readonly count: number;
  readonly what: string;
  readonly why: string;
  /** What the system does about it by itself, and when. */
  readonly itself: string;
  /** What a person has to do, with the command; null when nothing. */
  readonly todo: string | null;
}

export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${count} ${count === 1 ? one : many}`;
