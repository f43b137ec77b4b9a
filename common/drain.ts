import { writeSync } from 'node:fs';
import { tuneGarbageCollector } from './adapters/garbage-collector.ts';
import { isTfsError } from './errors.ts';
import { EXIT_REFUSED, STOP_MS_MAX } from './limits.ts';
import { type Log, openLog, type RootLog } from './log.ts';

export interface Running {
  /** Finishes what is in flight, refuses what is new, and releases everything. Called once. */
  close(): Promise<void>;
}

export interface Life {
  readonly kind: string;
  readonly id: string;
  /** Sets the server up; ready for work when it resolves. Set the level from the configuration on `log`. */
  readonly open: (log: RootLog) => Promise<Running>;
  /** Bound on `close`. */
  readonly stopMsMax?: number;
  /**
   * Kept running this long after `close`. In PM2's cluster mode a worker that exits at once strands the connections
   * which its master has accepted and not yet handed over.
   */
  readonly lingerMs?: number;
}

/**
 * The life of a server process, from its `main.ts`: open, tell the process manager, run, drain, exit.
 *
 * SIGINT, SIGTERM and PM2's `shutdown` message start one graceful stop; more of them change nothing. Exit codes:
 * 0 stopped as asked; 78 refused to start (codes REFUSED and CONFIG: a restart cannot help, PM2 does not try);
 * 1 everything else: it failed to start, did not stop within its bound, or hit a bug. An unhandled rejection is a bug
 * here although PM2's cluster mode would only log it and leave a process that does nothing.
 */
export async function runServer(life: Life): Promise<void> {
  tuneGarbageCollector();
  const log = openLog({ kind: life.kind, id: life.id });
  process.on('unhandledRejection', (reason) => {
    throw reason;
  });
  process.on('uncaughtException', (error) => crash(log, error));

  const stopAsked = stopSignal(log);
  let server: Running;
  try {
    server = await life.open(log);
  } catch (error) {
    const refused = isTfsError(error, 'REFUSED') || isTfsError(error, 'CONFIG');
    log.error({ err: error }, refused ? 'refused to start' : 'failed to start');
    return exit(refused ? EXIT_REFUSED : 1);
  }
  process.send?.('ready');
  log.info('ready');
  log.info({ why: await stopAsked }, 'stopping');
  await exit(await stop(server, life.stopMsMax ?? STOP_MS_MAX, log), life.lingerMs);
}

/** @returns what asked for the stop; more requests are noted and change nothing */
function stopSignal(log: Log): Promise<string> {
  return new Promise((resolve) => {
    let asked = false;
    const ask = (why: string) => {
      if (asked) log.debug({ why }, 'already stopping');
      asked = true;
      resolve(why);
    };
    process.on('SIGINT', () => ask('SIGINT'));
    process.on('SIGTERM', () => ask('SIGTERM'));
    process.on('message', (message) => {
      if (message === 'shutdown') ask('shutdown message');
    });
  });
}

/** @returns the exit code */
async function stop(server: Running, stopMsMax: number, log: Log): Promise<number> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<'expired'>((resolve) => {
    timer = setTimeout(() => resolve('expired'), stopMsMax);
  });
  try {
    const end = await Promise.race([server.close().then(() => 'closed' as const), expired]);
    if (end === 'closed') {
      log.info('stopped');
      return 0;
    }
    log.error({ stopMsMax }, 'did not stop in time; ending anyway, which is no worse than a power cut');
    return 1;
  } catch (error) {
    log.error({ err: error }, 'failed while stopping');
    return 1;
  } finally {
    clearTimeout(timer);
  }
}

/** Nothing may run on after a bug, so this does not wait for a log that writes in its own time. */
function crash(log: Log, error: unknown): never {
  log.error({ err: error }, 'a bug: this process ends now');
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  writeSync(2, `${new Date().toISOString()} crash of pid ${process.pid}: ${text}\n`);
  process.exit(1);
}

const LOG_FLUSH_MS = 100;

/** In cluster mode PM2 writes log lines asynchronously: give the last ones time. */
async function exit(code: number, lingerMs = LOG_FLUSH_MS): Promise<never> {
  await new Promise((resolve) => setTimeout(resolve, lingerMs));
  process.exit(code);
}
