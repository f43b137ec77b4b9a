import type { PictureKey } from '../../client/reader.ts';
import { HOT_PICTURE_UNCHECKED_MS_MAX } from '../../common/limits.ts';
import type { CachePurge } from '../purge/purge-names.ts';
import type { Found, FoundName, FoundPlace, Untold } from './find.ts';
import type { EraseOutcome } from './run.ts';

/** A name of the content, as it is shown. */
export interface ShownName {
  /** 18 characters; absent where the record reads on no server. */
  readonly name: string | undefined;
  readonly block: number;
  readonly state: FoundName['state'];
}

export function shownNames(places: readonly FoundPlace[], nameOf: (key: PictureKey) => string): ShownName[] {
  return places.flatMap(({ block, names }) =>
    names.map(({ fileId, cookie, state }) => ({
      name: cookie === undefined ? undefined : nameOf({ block, fileId, cookie }),
      block,
      state,
    })),
  );
}

export function listText(sha1: string, shown: readonly ShownName[], { untold }: Found): string {
  const lines = shown
    .filter(({ state }) => state !== 'purged')
    .map(({ name, block, state }) => `  ${name ?? '(does not read)   '}  ${state.padEnd(7)}  block ${block}`);
  const missing = untold.filter(({ isListed }) => isListed !== true);
  return [
    lines.length === 0
      ? `No name is left of the picture with SHA-1 ${sha1}`
      : `${count(lines.length, 'name')} of the picture with SHA-1 ${sha1}:`,
    ...lines,
    ...(missing.length === 0
      ? []
      : ['There may be more, which could not be asked for:', ...missing.map(untoldLine)]),
  ].join('\n');
}

/** @param caches what those in front said that are configured */
export function outcomeText(name: string, outcome: EraseOutcome, caches: readonly CachePurge[]): string {
  const { done, mayHold, pending, added } = outcome;
  const unpurged = caches
    .filter(({ failure }) => failure !== undefined)
    .map((one) => `${one.name} may still be in a cache in front: ${one.failure}. Run: tfs purge ${one.name}`);
  if (done)
    return [
      `${name} is erased: no disk of the cluster holds its bytes. Gateways do not serve it, and it leaves their memory ` +
        `within ${HOT_PICTURE_UNCHECKED_MS_MAX / 1000} s. ${cachesText(caches)}`,
      ...unpurged,
    ].join('\n');
  return [
    ...unpurged,
    `${name} is NOT erased for good yet. Run the same command again: it goes on where it is.`,
    ...(mayHold.length === 0 ? [] : ['These may still hold the bytes:', ...mayHold.map(untoldLine)]),
    ...pending.map((why) => `Not done: ${why}`),
    ...(added.length === 0
      ? []
      : [
          `${count(added.length, 'name')} of the same picture came up that ${added.length === 1 ? 'was' : 'were'} not in the list; left as it is. "tfs erase ${name}" shows them.`,
        ]),
  ].join('\n');
}

function cachesText(caches: readonly CachePurge[]): string {
  const ids = [...new Set(caches.map(({ cache }) => cache))];
  return ids.length === 0
    ? 'Caches in front of them (a CDN) have to be purged by you, and backups.'
    : `Of the caches in front these were told: ${ids.join(', ')}. Others, and backups, are up to you.`;
}

const untoldLine = ({ server, why }: Untold): string => `  server ${server}: ${why}`;

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;
