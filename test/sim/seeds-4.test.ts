import { seedsHold } from './seeds-hold.ts';

seedsHold(76, 25);
