/** Requests for renditions that are all different, so that no cache has any of them. */

export interface Ask {
  /** Which of the originals. */
  readonly original: number;
  /** Pixels. */
  readonly width: number;
  readonly quality: number;
}

const WIDTH_MAX = 720;
const WIDTHS = 160;
const QUALITY_MIN = 75;
const QUALITIES = 20;

/** @param n which request @param originals how many pictures there are */
export function askOf(n: number, originals: number): Ask {
  const round = Math.floor(n / originals);
  return {
    original: n % originals,
    width: WIDTH_MAX - (round % WIDTHS),
    quality: QUALITY_MIN + (Math.floor(round / WIDTHS) % QUALITIES),
  };
}

/** How many different ones there are. */
export const asksMax = (originals: number): number => originals * WIDTHS * QUALITIES;

export const pathOf = (name: string, { width, quality }: Ask): string =>
  `${name}?w=${width}&q=${quality}&fm=jpg`;
