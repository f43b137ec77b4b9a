import type { Log, LogFacts, LogLine } from '../../common/log.ts';
import type { SimProcess } from './process.ts';

/** What a simulated process logs becomes a part of the trace, when there is one; it costs nothing otherwise. */
export function simLog(process: SimProcess): Log {
  const line =
    (level: string): LogLine =>
    (first: string | LogFacts, message?: string) => {
      const { trace } = process.scheduler;
      if (trace === undefined) return;
      const text = typeof first === 'string' ? first : `${message} ${describe(first)}`;
      trace(`${process.scheduler.now.toFixed(3)} ${process.name} ${level}: ${text}`);
    };
  const log: Log = {
    debug: line('debug'),
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    child: () => log,
  };
  return log;
}

function describe(facts: LogFacts): string {
  return Object.entries(facts)
    .map(([key, value]) => `${key}=${value instanceof Error ? value.message : JSON.stringify(value)}`)
    .join(' ');
}
