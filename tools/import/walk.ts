import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

export interface FoundFile {
  /** Relative to the directory, `/` between its parts. */
  readonly path: string;
  readonly size: number;
  readonly mtimeMs: number;
}

/**
 * Every regular file below a directory, in order of path. Links to files are followed, links to directories are not,
 * so that a walk ends; what is neither file nor directory is left out.
 *
 * @param onError a file or directory that cannot be looked at; the walk goes on
 */
export async function walk(
  directory: string,
  onError: (path: string, error: Error) => void,
  below = '',
): Promise<FoundFile[]> {
  const found: FoundFile[] = [];
  let entries: Awaited<ReturnType<typeof listOf>>;
  try {
    entries = await listOf(join(directory, below));
  } catch (error) {
    if (below === '') throw error;
    onError(below, error as Error);
    return found;
  }
  for (const entry of entries) {
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory()) {
      found.push(...(await walk(directory, onError, path)));
      continue;
    }
    if (!entry.isFile() && !entry.isSymbolicLink()) continue;
    try {
      const { size, mtimeMs, isFile } = await statOf(join(directory, path));
      if (isFile) found.push({ path, size, mtimeMs });
    } catch (error) {
      onError(path, error as Error);
    }
  }
  return found;
}

async function listOf(directory: string) {
  const entries = await readdir(directory, { withFileTypes: true });
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function statOf(path: string): Promise<{ size: number; mtimeMs: number; isFile: boolean }> {
  const s = await stat(path);
  return { size: s.size, mtimeMs: s.mtimeMs, isFile: s.isFile() };
}
