import { readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { blockFileName, parseBlockFileName } from '../../common/format/file-names.ts';
import type { BlockId, ServerId } from '../../common/ids.ts';
import type { BlockEntry } from '../../common/wire/messages.ts';
import { STORE_DIRECTORIES } from '../../dataserver/block/api.ts';
import { fileOf, type SpaceDirectory } from '../../dataserver/space/parts.ts';
import type { ClusterProbe } from './cluster-probe.ts';
import type { ProcessCluster } from './process-cluster.ts';

const LOOK_AGAIN_MS = 1_000;
/** Records that a seal has set aside, and damaged files that were replaced, are kept on purpose. */
const DIRECTORIES: readonly SpaceDirectory[] = ['', STORE_DIRECTORIES.blocks, STORE_DIRECTORIES.spare];

/** Names of the files in each directory of a mount. */
export type Listing = Readonly<Partial<Record<SpaceDirectory, readonly string[]>>>;

/**
 * Files below a mount that belong to nothing that its DataServer says it holds: temporary ones, those of blocks that it
 * does not hold, of other generations, and ops logs that others have taken the place of.
 */
export function straysIn(listing: Listing, held: readonly BlockEntry[]): string[] {
  const generations = new Map(held.map(({ block, generation }) => [block, generation]));
  const newestOps = new Map<BlockId, number>();
  for (const name of listing.blocks ?? []) {
    const file = parseBlockFileName(name);
    if (file?.kind === 'ops')
      newestOps.set(file.block, Math.max(file.number, newestOps.get(file.block) ?? 0));
  }
  return DIRECTORIES.flatMap((directory) =>
    (listing[directory] ?? [])
      .filter((name) => {
        const { part, file } = fileOf(directory, name);
        if (part === 'temporary' || part === 'unknown') return true;
        if (file === undefined) return false;
        const { block, number, kind } = file;
        const wanted = kind === 'ops' ? newestOps.get(block) : generations.get(block);
        return !generations.has(block) || number !== wanted;
      })
      .map((name) => join(directory, name)),
  );
}

/**
 * Waits until no mount has a stray file. Replaced generations are kept for half a minute, and what is being made has a
 * temporary name: only what stays is wrong.
 *
 * @param block of this one alone; of all, and of what is no block's, when left out
 * @param leftAtMs only what a process left behind that ended then (wall clock): files of work that was begun later do not
 *   count, nor does a generation that was replaced later
 * @returns what is left after `withinMs`
 */
export async function strayFiles(
  { cluster, probe }: { readonly cluster: ProcessCluster; readonly probe: ClusterProbe },
  {
    servers = cluster.config.mounts.map(({ id }) => id as ServerId),
    block,
    leftAtMs = Number.POSITIVE_INFINITY,
    withinMs,
  }: {
    readonly servers?: readonly ServerId[];
    readonly block?: BlockId;
    readonly leftAtMs?: number;
    readonly withinMs: number;
  },
): Promise<string[]> {
  const deadlineAt = performance.now() + withinMs;
  // Only what was there at every look has stayed.
  let strays: readonly string[] | undefined;
  for (;;) {
    const found: string[] = [];
    for (const server of servers) found.push(...(await straysOf(server)));
    strays = strays === undefined ? found : strays.filter((one) => found.includes(one));
    if (strays.length === 0 || performance.now() > deadlineAt) return [...strays];
    await sleep(LOOK_AGAIN_MS);
  }

  async function straysOf(server: ServerId): Promise<string[]> {
    const root = cluster.mountPath(server);
    const list = (directory: string): string[] =>
      readdirSync(join(root, directory), { withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ name }) => name);
    const held = await probe.entriesOf(server);
    const listing = Object.fromEntries(DIRECTORIES.map((directory) => [directory, list(directory)]));
    const isWanted = (path: string): boolean =>
      block === undefined || path.startsWith(join(STORE_DIRECTORIES.blocks, `${block}.`));
    const isOlder = (path: string): boolean => bornMs(join(root, path)) < leftAtMs;
    const isLeft = (path: string): boolean => isOlder(path) && isOlder(presentOf(path, held) ?? path);
    return straysIn(listing, held)
      .filter((path) => isWanted(path) && isLeft(path))
      .map((path) => `server ${server}: ${path}`);
  }
}

/** The file that took the place of a block file or index of an earlier generation. */
function presentOf(path: string, held: readonly BlockEntry[]): string | undefined {
  const file = parseBlockFileName(basename(path));
  const entry = held.find(({ block }) => block === file?.block);
  if (file === undefined || entry === undefined || file.kind === 'ops') return undefined;
  return join(STORE_DIRECTORIES.blocks, blockFileName(file.block, entry.generation, 'blk'));
}

/** After everything that is looked for, where there is no such file any more. */
function bornMs(path: string): number {
  try {
    return statSync(path).birthtimeMs;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
