import { seedsHold } from './seeds-hold.ts';

seedsHold(26, 25);
