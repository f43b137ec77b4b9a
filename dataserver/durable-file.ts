import { crc32 } from 'node:zlib';
import { isTfsError, TfsError } from '../common/errors.ts';
import type { Disk } from '../common/seams/disk.ts';

/**
 * Replaces a small file as a whole: after a crash the old contents or the new are there, complete.
 * The caller may rely on the new contents only once the promise has resolved.
 *
 * Layout: 8 hex digits of the CRC-32 of what follows, a space, JSON, a newline.
 */
export async function writeDurable(disk: Disk, path: string, value: object): Promise<void> {
  const json = JSON.stringify(value);
  const text = Buffer.from(`${crc32(json).toString(16).padStart(8, '0')} ${json}\n`, 'utf8');
  const temporary = `${path}.tmp`;
  const file = await disk.open(temporary, 'create');
  try {
    try {
      await file.write([text], 0);
      // The bytes before the name: a rename that survives a crash must never point at bytes that did not.
      await file.datasync();
    } finally {
      await file.close();
    }
    await disk.rename(temporary, path);
  } catch (error) {
    // Where that fails too, the next attempt writes over it.
    await disk.unlink(temporary).catch(() => undefined);
    throw error;
  }
  const slash = path.lastIndexOf('/');
  await disk.syncDirectory(slash < 0 ? '' : path.slice(0, slash));
}

/**
 * @returns the parsed JSON, or undefined when there is no such file
 * @throws TfsError CORRUPT when the file is there but is not what was written
 */
export async function readDurable(disk: Disk, path: string): Promise<unknown> {
  let text: string;
  try {
    text = (await disk.readFile(path)).toString('utf8');
  } catch (error) {
    if (isTfsError(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
  const json = text.slice(9).trimEnd();
  if (text[8] !== ' ' || Number.parseInt(text.slice(0, 8), 16) !== crc32(json)) {
    throw new TfsError('CORRUPT', `${path} is damaged: its checksum does not match its contents`);
  }
  return JSON.parse(json);
}
