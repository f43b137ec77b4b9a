import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The text of one secret of a cluster. */
export const readSecretOf = (home: string, name: string): string =>
  readFileSync(join(home, 'secrets', name), 'utf8').trim();
