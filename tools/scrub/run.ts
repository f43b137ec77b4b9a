import { toTfsError } from '../../common/errors.ts';
import type { ServerId } from '../../common/ids.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { ServerInfo } from '../../common/wire/control.ts';
import type { Scrub, ScrubFigures } from '../../common/wire/scrub.ts';

const LOOK_MS = 500;

export interface ScrubRun {
  readonly begin: Scrub['begin'];
  /** Until each pass has ended, and then so long for the repair of what it found. */
  readonly wait: boolean;
  readonly repairWaitMs: number;
  readonly clock: Clock;
  /** Asks one DataServer. */
  readonly ask: (server: ServerInfo, begin: Scrub['begin']) => Promise<ScrubFigures>;
  /** @param total read and still to be read, on all servers */
  readonly onProgress: (bytes: number, total: number) => void;
}

export interface ServerScrub {
  readonly server: ServerId;
  readonly figures?: ScrubFigures;
  /** Why there are none, or not the newest. */
  readonly failure?: string;
}

/** Has the servers scrubbed, and watches them, if that is wanted. */
export async function runScrub(servers: readonly ServerInfo[], run: ScrubRun): Promise<ServerScrub[]> {
  let found = await Promise.all(servers.map((server) => askOne(server, run, run.begin)));
  let untilMs = Number.POSITIVE_INFINITY;
  while (run.wait) {
    const isReading = found.some(({ figures }) => isUnderWay(figures));
    const now = run.clock.monotonic();
    if (!isReading) {
      untilMs = Math.min(untilMs, now + run.repairWaitMs);
      if (now >= untilMs || found.every(({ figures }) => (figures?.suspects ?? 0) === 0)) break;
    }
    run.onProgress(...progressOf(found));
    await run.clock.sleep(LOOK_MS);
    const before = found;
    found = await Promise.all(
      servers.map(async (server, i) => ({ ...before[i], ...(await askOne(server, run, 'no')) })),
    );
  }
  run.onProgress(...progressOf(found));
  return found;
}

async function askOne(server: ServerInfo, { ask }: ScrubRun, begin: Scrub['begin']): Promise<ServerScrub> {
  try {
    if (server.state !== 'up') return { server: server.id, failure: `it is ${server.state}` };
    return { server: server.id, figures: await ask(server, begin) };
  } catch (error) {
    return { server: server.id, failure: toTfsError(error).message };
  }
}

export const isUnderWay = (figures: ScrubFigures | undefined): boolean =>
  figures?.pass !== undefined && figures.pass.endedAtMs === undefined;

function progressOf(found: readonly ServerScrub[]): [bytes: number, total: number] {
  let [bytes, left] = [0, 0];
  for (const { figures } of found) {
    bytes += figures?.pass?.bytes ?? 0;
    left += figures?.leftBytes ?? 0;
  }
  return [bytes, bytes + left];
}
