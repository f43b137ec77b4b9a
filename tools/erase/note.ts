import { join } from 'node:path';
import { z } from 'zod';
import { TfsError } from '../../common/errors.ts';
import { hex, zBlock } from '../../common/wire/control.ts';
import { zErasedSlot } from '../../common/wire/erase.ts';
import { readIfThere, replaceFile } from '../cluster/home.ts';

const zNote = z.object({
  name: z.string().length(18),
  sha1: hex(20),
  /** Whose bytes were to go, with what was agreed to for each. */
  records: z.array(zErasedSlot.extend({ block: zBlock })),
  /** ISO 8601. Absent until no disk could hold the bytes. */
  doneAt: z.string().optional(),
});
export type EraseNote = z.infer<typeof zNote>;

/** Where the notes are in a cluster's home. */
export const erasuresDir = (home: string): string => join(home, 'erasures');

const pathOf = (home: string, name: string): string => join(erasuresDir(home), `${name}.json`);

/**
 * What is being erased is noted in the home before the first byte goes: afterwards no server can tell which content it was,
 * or where it has been, and a disk that comes back has to be asked for just that.
 *
 * @returns undefined where there is none
 * @throws TfsError CONFIG for one that does not read
 */
export async function readNote(home: string, name: string): Promise<EraseNote | undefined> {
  const path = pathOf(home, name);
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  try {
    return zNote.parse(JSON.parse(text));
  } catch (cause) {
    throw new TfsError('CONFIG', `${path} is not what "tfs erase" has written: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** Resolves when it is durable. */
export async function writeNote(home: string, note: EraseNote): Promise<void> {
  await replaceFile(pathOf(home, note.name), `${JSON.stringify(note, undefined, 1)}\n`);
}
