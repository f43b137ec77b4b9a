import { toTfsError } from '../../common/errors.ts';
import {
  type BlockId,
  type Cookie,
  compareVersions,
  type FileId,
  type ServerId,
  type Slot,
} from '../../common/ids.ts';
import type { ServerInfo } from '../../common/wire/control.ts';
import type { FoundContent, FoundRecord } from '../../common/wire/erase.ts';
import { NameFlag } from '../../common/wire/messages.ts';

export interface FoundName {
  readonly fileId: FileId;
  /** Undefined where the record reads on no server that was asked. */
  readonly cookie: Cookie | undefined;
  readonly state: 'live' | 'hidden' | 'deleted' | 'purged';
}

/** A record of the content, as the replica knows it that has heard most of it. */
export interface FoundPlace {
  readonly block: BlockId;
  readonly slot: Slot;
  /** Its own name first, then its aliases. */
  readonly names: readonly FoundName[];
}

/** A disk that could not tell everything. */
export interface Untold {
  readonly server: ServerId;
  readonly why: string;
  /** It may be otherwise in a moment, by itself. */
  readonly passes: boolean;
  /** All names that it can know of were told: only bytes without one may be there. */
  readonly isListed?: true;
}

export interface Found {
  readonly places: readonly FoundPlace[];
  readonly untold: readonly Untold[];
}

export interface FindPorts {
  readonly servers: () => Promise<readonly ServerInfo[]>;
  readonly find: (server: ServerInfo, sha1: string, from: number) => Promise<FoundContent>;
  /** @param looked blocks so far, on all servers @param blocks there are, as far as that is known */
  readonly onLooked: (looked: number, blocks: number) => void;
}

export const placeKey = ({ block, slot }: Pick<FoundPlace, 'block' | 'slot'>): string => `${block}/${slot}`;

/** Asks every DataServer for records of that content: duplicates are found by the server that stores them, so there may be some on each. */
export async function findEverywhere(ports: FindPorts, sha1: string): Promise<Found> {
  const best = new Map<string, FoundRecord>();
  const untold: Untold[] = [];
  const looked = new Map<ServerId, { looked: number; blocks: number }>();
  const tell = () => {
    const all = [...looked.values()];
    const sum = (of: 'looked' | 'blocks') => all.reduce((total, one) => total + one[of], 0);
    ports.onLooked(sum('looked'), sum('blocks'));
  };
  const askAll = async (server: ServerInfo): Promise<void> => {
    const [unread, unsettled]: [BlockId[], BlockId[]] = [[], []];
    for (let from: number | undefined = 0; from !== undefined; ) {
      const found: FoundContent = await ports.find(server, sha1, from);
      for (const record of found.records)
        best.set(placeKey(record), merged(best.get(placeKey(record)), record));
      unread.push(...found.unread);
      unsettled.push(...found.unsettled);
      const before = looked.get(server.id)?.looked ?? 0;
      looked.set(server.id, { looked: before + found.looked, blocks: found.blocks });
      tell();
      from = found.next;
    }
    if (unread.length > 0)
      untold.push({ server: server.id, why: `it cannot read ${fewBlocks(unread)} now`, passes: true });
    if (unsettled.length > 0)
      untold.push({
        server: server.id,
        why: `it has to seal ${fewBlocks(unsettled)} first`,
        passes: true,
        isListed: true,
      });
  };
  await Promise.all(
    (await ports.servers()).map(async (server) => {
      try {
        if (server.state !== 'up') throw new Error(`it is ${server.state}`);
        await askAll(server);
      } catch (error) {
        untold.push({ server: server.id, why: toTfsError(error).message, passes: false });
      }
    }),
  );
  const places = [...best.values()].map(placeOf);
  return {
    places: places.sort((a, b) => a.block - b.block || a.slot - b.slot),
    untold: untold.sort((a, b) => a.server - b.server),
  };
}

/** The one that holds more operations, with the cookie of whichever reads. */
function merged(before: FoundRecord | undefined, record: FoundRecord): FoundRecord {
  if (before === undefined) return record;
  const order = compareVersions(record.version, before.version) || record.seq - before.seq;
  const [newer, older] = order > 0 ? [record, before] : [before, record];
  const cookie = newer.names[0]?.cookie ?? older.names[0]?.cookie;
  if (cookie === undefined) return newer;
  return { ...newer, names: newer.names.map((name, i) => (i === 0 ? { ...name, cookie } : name)) };
}

function placeOf({ block, slot, names }: FoundRecord): FoundPlace {
  return {
    block,
    slot,
    names: names.map(({ fileId, cookie, flags }) => ({ fileId, cookie, state: stateOf(flags) })),
  };
}

function stateOf(flags: number): FoundName['state'] {
  if ((flags & NameFlag.PURGED) !== 0) return 'purged';
  if ((flags & NameFlag.DELETED) !== 0) return 'deleted';
  return (flags & NameFlag.HIDDEN) !== 0 ? 'hidden' : 'live';
}

const FEW = 5;

/** For a person. */
export function fewBlocks(ids: readonly number[]): string {
  const first = ids.slice(0, FEW).join(', ');
  const more = ids.length > FEW ? ` and ${ids.length - FEW} more` : '';
  return `block${ids.length === 1 ? '' : 's'} ${first}${more}`;
}
