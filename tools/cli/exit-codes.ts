import { ERROR_TABLE, isTfsError } from '../../common/errors.ts';

/** What a script learns from `tfs` without reading what it prints. Part of the interface: never renumbered. */
export const ExitCode = {
  DONE: 0,
  /** Some or all of it was not done; standard error says what and why. */
  FAILED: 1,
  /** The command line or the configuration is wrong. */
  USAGE: 2,
  /** There is no such picture, or there no longer is. */
  NOT_FOUND: 3,
  /** The token is missing or wrong. */
  NOT_PERMITTED: 4,
  /** Nothing is wrong with the request: the same command may succeed later. */
  TRY_LATER: 5,
  /** More names would be erased than was agreed to; see `tfs erase`. */
  MORE_NAMES: 6,
  INTERRUPTED: 130,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export function exitCodeOf(error: unknown): ExitCode {
  if (!isTfsError(error)) return ExitCode.FAILED;
  const { http, retryable } = ERROR_TABLE[error.code];
  if (error.code === 'CONFIG' || error.code === 'BAD_NAME') return ExitCode.USAGE;
  if (http === 404 || http === 410) return ExitCode.NOT_FOUND;
  if (http === 401 || http === 403) return ExitCode.NOT_PERMITTED;
  return retryable ? ExitCode.TRY_LATER : ExitCode.FAILED;
}

export const EXIT_CODES_HELP = `
Exit codes: 0 done · 1 failed · 2 wrong usage · 3 no such picture · 4 not permitted · 5 try again later · 6 more names would be erased · 130 interrupted`;
