import { TfsError } from '../../common/errors.ts';
import type { Clock } from '../../common/seams/clock.ts';
import { tunable } from '../../common/tunables.ts';
import type { ReadPace } from '../block/store.ts';
import type { Pace } from '../repair.ts';
import { Bucket, restMs } from './pace.ts';
import type { ReadClock } from './read-times.ts';

interface JobPaceParts {
  readonly job: Pace;
  readonly reads: ReadClock;
  readonly clock: Clock;
  /** No faster, whatever the job may. */
  readonly bytesPerSecond: number;
  readonly sleep: (ms: number) => Promise<void>;
  readonly assertOpen: () => void;
  readonly onRead: (bytes: number) => void;
}

/** The pace at which a job has a replica read: that of all jobs, and giving way to reads of pictures as a pass does. */
export function jobPace({
  job,
  reads,
  clock,
  bytesPerSecond,
  sleep,
  assertOpen,
  onRead,
}: JobPaceParts): ReadPace {
  const bucket = new Bucket();
  let [restedMs, lastMs] = [0, 0];
  return {
    pieceBytes: tunable.scrubPieceBytes,
    read: async (bytes, work) => {
      job.assertInTime();
      lastMs = restMs(lastMs, reads.times);
      restedMs += lastMs;
      // Whoever waits for it has better things to do; the passes of this disk come to this replica too.
      if (restedMs > tunable.scrubJobRestMsMax)
        throw new TfsError('UNAVAILABLE', 'reads of pictures come first: it is read through later');
      const waitMs = Math.max(lastMs, bucket.take(bytes, bytesPerSecond, clock.monotonic()));
      if (waitMs > 0) await sleep(waitMs);
      assertOpen();
      const result = await reads.piece(work);
      onRead(bytes);
      await job.came(bytes);
      return result;
    },
  };
}
