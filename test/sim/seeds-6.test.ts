import { seedsHold } from './seeds-hold.ts';

seedsHold(126, 25);
