import type { Random } from '../../common/seams/random.ts';
import type { SeededRandom } from '../kit/seeded-random.ts';

/** What a power cut does to what was not settled. */
export interface Fate {
  /** @param sequence of the change; asked once for each */
  keeps(sequence: number): boolean;
  readonly random: Random;
}

/**
 * What a power cut leaves of what was not settled: nothing, all, what came before some moment, or each sector, size and
 * name by itself.
 */
export type PowerCutStyle = 'lost' | 'kept' | 'prefix' | 'coins';

const STYLES: readonly PowerCutStyle[] = ['lost', 'kept', 'prefix', 'coins', 'coins'];
const SHARES = [0.1, 0.5, 0.9];
/** Changes before the cut within which the moment of a prefix is drawn. */
const PREFIX_CHANGES = 200;

/** @param sequence of the last change */
export function drawFate(random: SeededRandom, sequence: number, style = random.pick(STYLES)): Fate {
  const share = random.pick(SHARES);
  const moment = sequence - random.below(PREFIX_CHANGES);
  const keeps: Record<PowerCutStyle, (of: number) => boolean> = {
    lost: () => false,
    kept: () => true,
    prefix: (of) => of <= moment,
    coins: () => random.float() < share,
  };
  return { keeps: keeps[style], random };
}
