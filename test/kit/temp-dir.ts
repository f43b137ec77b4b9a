import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from './suite.ts';

/** An empty directory that is removed after the test. */
export function tempDir(t: TestContext, prefix = 'tfs-'): string {
  const directory = mkdtempSync(join(tmpdir(), prefix));
  t.defer(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
