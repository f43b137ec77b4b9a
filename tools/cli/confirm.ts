import { createInterface } from 'node:readline/promises';
import { TfsError } from '../../common/errors.ts';

/**
 * Asks a person before something that cannot be taken back.
 *
 * @param word that has to be typed
 * @throws TfsError CONFIG where nobody can be asked
 */
export async function confirm(question: string, word: string): Promise<boolean> {
  if (process.stdin.isTTY !== true)
    throw new TfsError('CONFIG', 'this cannot be taken back, and nobody is there to be asked: give --yes');
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await terminal.question(`${question} Type ${word} to go on: `)).trim() === word;
  } finally {
    terminal.close();
  }
}
