import { lockStoreContract } from '../contract/lock-store.ts';
import { ManualClock } from './manual-clock.ts';
import { MemoryLockStore } from './memory-lock-store.ts';
import { turn } from './memory-net.ts';
import { describe } from './suite.ts';

describe('MemoryLockStore', (test) => {
  lockStoreContract(test, async () => {
    const clock = new ManualClock();
    const store = new MemoryLockStore(clock);
    return {
      store,
      pass: async (ms) => {
        clock.advance(ms);
        await turn();
      },
      goDown: async () => {
        store.isDown = true;
      },
    };
  });
});
