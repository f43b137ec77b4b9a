import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { NodeDisk } from '../../../common/adapters/node-disk.ts';
import { TfsError } from '../../../common/errors.ts';
import { readMount } from '../../../dataserver/mount.ts';
import { openFileSource } from '../file-source.ts';
import { checkDigestIndex } from './digest-index-step.ts';
import { checkFiles, checkMountFiles } from './files-steps.ts';
import { checkOpsLogs, checkSuperblocks } from './heads-steps.ts';
import { checkIndexFiles } from './index-step.ts';
import { isServed } from './lock.ts';
import { checkRecords } from './records-step.ts';
import { Findings, type MountUnderCheck, type Step, type StepResult } from './step.ts';

const STEPS: readonly Step[] = [
  { name: 'mount', run: checkMountFiles },
  { name: 'files', run: checkFiles },
  { name: 'superblocks', run: checkSuperblocks },
  { name: 'ops logs', run: checkOpsLogs },
  { name: 'records', run: checkRecords },
  { name: 'index files', run: checkIndexFiles },
  { name: 'SHA-1 index', run: checkDigestIndex },
];

export interface FsckOptions {
  readonly path: string;
  readonly onStep?: (result: StepResult) => void;
  /** @param bytes of block files read so far, of how many */
  readonly onProgress?: (bytes: number, total: number) => void;
}

export interface FsckReport {
  readonly mount: string;
  readonly server: number;
  readonly clusterUuid: string;
  readonly blocks: number;
  readonly clean: boolean;
  readonly steps: readonly StepResult[];
}

/**
 * Checks everything that a mount holds, and changes nothing. A mount that is being served may be checked too: blocks
 * that are being written are then looked at twice before anything is said about them.
 *
 * @throws TfsError REFUSED, IO or NOT_FOUND when it is not a mount, or cannot be read at all
 */
export async function fsck(options: FsckOptions): Promise<FsckReport> {
  const { path } = options;
  const identity = await readMount(path);
  if (identity === undefined)
    throw new TfsError(
      'REFUSED',
      `${path} is not a mount (no mount.tfs in it): give the directory of a DataServer, as in mounts[].path of config.json`,
    );
  const disk = await NodeDisk.open(path);
  let read = 0;
  let total = 0;
  const mount: MountUnderCheck = {
    path,
    disk,
    clusterUuid: identity.clusterUuid,
    server: identity.server,
    served: await isServed(path),
    blocks: [],
    openBlock: (fileName) => openFileSource(join(path, 'blocks', fileName)),
    progress: (bytes) => {
      read += bytes;
      options.onProgress?.(read, total);
    },
  };
  const steps: StepResult[] = [];
  for (const { name, run } of STEPS) {
    const found = new Findings();
    const startedMs = performance.now();
    const checked = await run(mount, found);
    const result = found.result(name, performance.now() - startedMs, checked);
    steps.push(result);
    options.onStep?.(result);
    if (name === 'files') total = await bytesOf(mount);
  }
  return {
    mount: path,
    server: identity.server,
    clusterUuid: identity.clusterUuid,
    blocks: mount.blocks.length,
    clean: steps.every((step) => step.damage.length === 0),
    steps,
  };
}

async function bytesOf(mount: MountUnderCheck): Promise<number> {
  let total = 0;
  for (const { fileName } of mount.blocks) {
    // A file that has gone meanwhile is told by the step that opens it.
    total += await stat(join(mount.path, 'blocks', fileName)).then(
      ({ size }) => size,
      () => 0,
    );
  }
  return total;
}
