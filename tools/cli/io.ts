import { toTfsError } from '../../common/errors.ts';
import { ExitCode, exitCodeOf } from './exit-codes.ts';

/** What every command is given: where results go, and how it says that something failed. */
export interface CommandIo {
  /** Results on standard output: text, or with `--json` one JSON document a line. */
  result(value: object, text: string): void;
  /** A hint or a warning, on standard error; never a result. */
  note(text: string): void;
  /** Reports a failure on standard error and makes the exit code tell; the command may go on with its next item. */
  fail(error: unknown, about?: string): void;
  readonly json: boolean;
}

export function openIo(json: boolean): CommandIo {
  return {
    json,
    result: (value, text) => void process.stdout.write(`${json ? JSON.stringify(value) : text}\n`),
    note,
    fail: (error, about) => {
      const tfsError = toTfsError(error);
      note(`${about === undefined ? '' : `${about}: `}${tfsError.message}`);
      raiseExitCode(exitCodeOf(error));
    },
  };
}

function note(text: string): void {
  process.stderr.write(`tfs: ${text}\n`);
}

/** The first failure decides, except that different failures together are a plain one. */
export function raiseExitCode(code: ExitCode): void {
  const now = process.exitCode;
  process.exitCode = now === undefined || now === 0 || now === code ? code : ExitCode.FAILED;
}
