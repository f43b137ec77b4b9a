import { type Logger, pino } from 'pino';

/**
 * One JSON line for each event, on standard output; the process manager puts it into a file. Rare events only: nothing
 * is logged for a picture that was stored or read as asked, metrics count those.
 *
 * `message` says what happened in words a search finds again; what varies goes into `facts`. An error goes under the
 * key `err` and is written with its stack and causes. Values under {@link SECRET_KEYS} are never written.
 */
export interface Log {
  readonly debug: LogLine;
  readonly info: LogLine;
  /** Something to look at one day; nothing is lost and nobody needs to act now. */
  readonly warn: LogLine;
  /** Somebody has to act. */
  readonly error: LogLine;
  /** The same log with `facts` on every line. */
  child(facts: LogFacts): Log;
}

export interface LogLine {
  (message: string): void;
  (facts: LogFacts, message: string): void;
}

export type LogFacts = Readonly<Record<string, unknown>>;
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** A process's own log; `setLevel` holds for children made after it. */
export interface RootLog extends Log {
  setLevel(level: LogLevel): void;
}

export interface LogOptions {
  /** On every line: which process this is. */
  readonly kind: string;
  readonly id: string;
  readonly level?: LogLevel;
  /** Takes whole lines; standard output when absent. */
  readonly write?: (line: string) => void;
}

export const SECRET_KEYS = [
  'authorization',
  'token',
  'secret',
  'password',
  'roleKey',
  'rendezvousKey',
] as const;

export function openLog(options: LogOptions): RootLog {
  const logger = pino(
    {
      level: options.level ?? 'info',
      base: { kind: options.kind, id: options.id, pid: process.pid },
      messageKey: 'message',
      formatters: { level: (level) => ({ level }) },
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: {
        paths: SECRET_KEYS.flatMap((key) => [key, `*.${key}`, `*.*.${key}`]),
        censor: '[redacted]',
      },
    },
    // Looked up at each write: in cluster mode the process manager replaces process.stdout.write.
    { write: options.write ?? ((line: string) => void process.stdout.write(line)) },
  );
  return Object.assign(wrap(logger), {
    setLevel: (level: LogLevel) => {
      logger.level = level;
    },
  });
}

/** For tests and tools that have nobody to tell. */
export const silentLog: Log = {
  debug: ignore,
  info: ignore,
  warn: ignore,
  error: ignore,
  child: () => silentLog,
};

function wrap(logger: Logger): Log {
  // Looked up at each call: pino replaces its methods when the level changes.
  const line =
    (level: LogLevel): LogLine =>
    (first: string | LogFacts, message?: string) =>
      typeof first === 'string' ? logger[level](first) : logger[level](first, message);
  return {
    debug: line('debug'),
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    child: (facts) => wrap(logger.child(facts)),
  };
}

function ignore(): void {}
