import type { Log, LogFacts, LogLevel, LogLine } from '../../common/log.ts';

export interface CapturedLine {
  readonly level: LogLevel;
  readonly message: string;
  readonly facts: LogFacts;
}

/** A log that a test can look at; children write into the same lines. */
export interface CaptureLog extends Log {
  readonly lines: CapturedLine[];
}

export function captureLog(lines: CapturedLine[] = [], base: LogFacts = {}): CaptureLog {
  const at = (level: LogLevel): LogLine =>
    ((first: string | LogFacts, second?: string) => {
      const facts = typeof first === 'string' ? {} : first;
      const message = typeof first === 'string' ? first : (second ?? '');
      lines.push({ level, message, facts: { ...base, ...facts } });
    }) as LogLine;
  return {
    lines,
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (facts) => captureLog(lines, { ...base, ...facts }),
  };
}
