import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '..', '..');
const SOURCES = ['common', 'nameserver', 'dataserver', 'client', 'tools', 'types'];
/** Written when everything was compiled. */
const STAMP = join(ROOT, 'dist', '.tfs-sources');

let isFresh: boolean | undefined;

/**
 * Arguments for Node to run a program of the project: the compiled one where it is up to date, because it starts several
 * times faster, else the source.
 *
 * @param module path without extension, such as `dataserver/main`
 */
export function nodeArguments(module: string): string[] {
  isFresh ??= isCompiled();
  return isFresh ? [join(ROOT, 'dist', `${module}.js`)] : ['--import', 'tsx', join(ROOT, `${module}.ts`)];
}

function isCompiled(): boolean {
  if (!existsSync(STAMP)) return false;
  const compiledAtMs = statSync(STAMP).mtimeMs;
  return SOURCES.every((directory) =>
    readdirSync(join(ROOT, directory), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .every((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs <= compiledAtMs),
  );
}
