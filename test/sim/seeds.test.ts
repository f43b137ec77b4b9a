import { seedsHold } from './seeds-hold.ts';

// Not seed 12, see docs/track-record.md.
seedsHold(1, 11);
seedsHold(13, 9);
