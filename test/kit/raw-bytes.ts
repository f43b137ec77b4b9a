import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Files below a directory that contain the pattern, relative to it. LevelDB's are left out: they hold hashes. */
export function filesWith(root: string, pattern: Buffer): string[] {
  return (readdirSync(root, { recursive: true }) as string[])
    .filter((path) => !path.startsWith('kv/') && statSync(join(root, path)).isFile())
    .filter((path) => readFileSync(join(root, path)).includes(pattern))
    .sort();
}
