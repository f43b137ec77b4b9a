import { assert } from '../../common/errors.ts';

const SEGMENT = /^(?!\.{1,2}$)[a-z0-9._-]+$/;

/** An assertion for anything that common/seams/disk.ts does not call a path. */
export function checkPath(path: string): void {
  assert(path !== '' && path.split('/').every((s) => SEGMENT.test(s)), `"${path}" is a disk path`);
}

/** @returns the empty path, which is the mount itself, for a file beside which there is no directory */
export function directoryOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}
