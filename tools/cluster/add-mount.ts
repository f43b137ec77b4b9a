import { readdir, readFile } from 'node:fs/promises';
import { type Config, type ConfigInput, configPath, parseConfig, portsOf } from '../../common/config.ts';
import { TfsError } from '../../common/errors.ts';
import { replaceFile } from './home.ts';
import { everFormatted } from './mounts.ts';
import { takenPorts } from './ports.ts';

export interface NewMount {
  /** Absolute. */
  readonly path: string;
  /** What fails together with it; a name of its own when absent. */
  readonly domain?: string | undefined;
  /** Where its DataServer listens; as the first mount's when absent. */
  readonly host?: string | undefined;
  readonly capacityBytes?: number | undefined;
}

type Entry = ConfigInput['mounts'][number];

const PORT_MAX = 65_535;

/**
 * Enters a mount into the configuration file, which is changed in nothing else. It is formatted and started by the next
 * reload.
 *
 * @returns the entry
 * @throws TfsError REFUSED for a directory that is not empty; CONFIG for an entry that does not fit the others
 */
export async function addMount(config: Config, mount: NewMount): Promise<Entry> {
  const other = config.mounts.find(({ path: taken }) => taken === mount.path);
  if (other !== undefined)
    throw new TfsError('CONFIG', `${mount.path} is the mount of DataServer ${other.id} already`);
  await refuseFull(mount.path);
  const file = configPath(config.home);
  const input = JSON.parse(await readFile(file, 'utf8')) as ConfigInput;
  const used = [...config.mounts.map(({ id }) => id), ...(await everFormatted(config))];
  // An id is never used again, whatever has become of its disk.
  const id = Math.max(0, ...used) + 1;
  const host = mount.host ?? config.mounts[0]!.host;
  const port = await freePair(config, host);
  const { path, domain = `d${id}`, capacityBytes } = mount;
  const entry: Entry = {
    ...{ id, path, host, port, adminPort: port + 1, domain },
    ...(capacityBytes === undefined ? {} : { capacityBytes }),
  };
  const changed = { ...input, mounts: [...input.mounts, entry] };
  // What does not fit is refused before anything is written.
  parseConfig(changed, config.home, file);
  await replaceFile(file, `${JSON.stringify(changed, null, 2)}\n`);
  return entry;
}

async function refuseFull(path: string): Promise<void> {
  let names: string[];
  try {
    names = await readdir(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw new TfsError('REFUSED', `${path} cannot be a mount: ${(error as Error).message}`, { cause: error });
  }
  // A new file system has this in it.
  if (names.some((name) => name !== 'lost+found'))
    throw new TfsError('REFUSED', `${path} is not empty: a new mount starts empty, on a disk of its own`);
}

/** @returns the first of two ports in a row that nobody has */
async function freePair(config: Config, host: string): Promise<number> {
  const known = portsOf(config).map(({ port }) => port);
  for (let port = Math.max(...config.mounts.map((mount) => mount.adminPort)) + 1; port < PORT_MAX; port++) {
    const pair = [port, port + 1];
    if (pair.some((one) => known.includes(one))) continue;
    const taken = await takenPorts(pair.map((one) => ({ host, port: one, what: 'mounts[].port' })));
    if (taken.length === 0) return port;
    // Another machine's ports cannot be tried from here.
    if (taken.every(({ why }) => !why.startsWith('taken'))) return port;
  }
  throw new TfsError('CONFIG', 'no two ports in a row are free behind those of the other mounts');
}
