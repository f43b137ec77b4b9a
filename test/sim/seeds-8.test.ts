import { seedsHold } from './seeds-hold.ts';

seedsHold(176, 25);
