import type { ServerFigures } from '../../common/wire/control.ts';
import {
  type BlockSpaceReply,
  elsewhereBytes,
  SPACE_PART_NAMES,
  SPACE_PARTS,
  type SpacePart,
  type SpaceParts,
  type SpaceUse,
} from '../../common/wire/space.ts';
import { columns, formatAge } from './columns.ts';

/** What stands in columns of its own; everything else is overhead, told part by part. */
const SHOWN: readonly SpacePart[] = ['live', 'inWindow', 'garbage'];
const OVERHEAD = SPACE_PART_NAMES.filter((part) => !SHOWN.includes(part));
const STORED_TITLES = ['LIVE', 'IN WINDOW', 'GARBAGE', 'GARBAGE %', 'OVERHEAD'] as const;
const MB = 1e6;

/** What every byte of each disk, and of all of them, is. @param nowMs wall clock */
export function spaceTables(figures: ServerFigures, nowMs: number): string {
  const uses = figures.flatMap(({ id, use }) => (use === undefined ? [] : [{ id: String(id), use }]));
  const silent = figures.filter(({ use }) => use === undefined).map(({ id }) => id);
  const all = [...uses, { id: 'all', use: sumOf(uses.map(({ use }) => use)) }];
  const parts = [diskTable(all), overheadTable(all), orphanLines(uses)];
  if (silent.length > 0) parts.push(`Not known of server ${silent.join(', ')}.`);
  const oldestMs = Math.max(0, ...uses.map(({ use }) => nowMs - use.measuredAtMs));
  parts.push(`In MB of 1000000 bytes; as of ${formatAge(oldestMs)} ago at the most.`);
  return parts.join('\n\n');
}

/** The blocks of one DataServer with the most garbage. */
export function blockTable({ server, blocks, rows }: BlockSpaceReply & { readonly server: number }): string {
  const table = columns(
    [`BLOCK ON ${server}`, ...STORED_TITLES],
    rows.map(({ block, parts }) => [String(block), ...storedCells(parts)]),
  );
  return `${table}\n${rows.length} of ${blocks} blocks`;
}

interface Row {
  readonly id: string;
  readonly use: SpaceUse;
}

function diskTable(rows: readonly Row[]): string {
  return columns(
    ['DATASERVER', ...STORED_TITLES, 'FREE', 'ELSEWHERE', 'DISK'],
    rows.map(({ id, use }) => {
      const { parts, freeBytes, totalBytes } = use;
      return [id, ...storedCells(parts), ...[freeBytes, elsewhereBytes(use), totalBytes].map(mb)];
    }),
  );
}

/** What is stored, by its columns, overhead, and the share of garbage. */
function storedCells(parts: SpaceParts): string[] {
  const overhead = OVERHEAD.reduce((sum, part) => sum + parts[part], 0);
  const stored = parts.live + parts.inWindow + parts.garbage;
  const share = stored === 0 ? '-' : ((parts.garbage * 100) / stored).toFixed(1);
  return [...SHOWN.map((part) => mb(parts[part])), share, mb(overhead)];
}

/** Only parts that there are. */
function overheadTable(rows: readonly Row[]): string {
  const there = OVERHEAD.filter((part) => rows.some(({ use }) => use.parts[part] !== 0));
  const titles = ['OVERHEAD', ...rows.map(({ id }) => (id === 'all' ? 'ALL' : id)), ''];
  return columns(
    titles,
    there.map((part) => [part, ...rows.map(({ use }) => mb(use.parts[part])), SPACE_PARTS[part]]),
  );
}

function orphanLines(rows: readonly Row[]): string {
  const there = rows.filter(({ use }) => use.orphans.files > 0);
  if (there.length === 0) return 'No orphans: every file belongs to a block or to the server.';
  return there
    .map(({ id, use: { orphans } }) => {
      const { files, bytes, oldestMs } = orphans;
      return `Orphans   server ${id}: ${files} files, ${mb(bytes)} MB, the oldest ${formatAge(oldestMs)} old`;
    })
    .join('\n');
}

/** Mounts that share a file system count its free space each. */
function sumOf(uses: readonly SpaceUse[]): SpaceUse {
  const sum = (of: (use: SpaceUse) => number) => uses.reduce((total, use) => total + of(use), 0);
  const parts = Object.fromEntries(
    SPACE_PART_NAMES.map((part) => [part, sum((use) => use.parts[part])]),
  ) as SpaceUse['parts'];
  return {
    measuredAtMs: Math.min(...uses.map(({ measuredAtMs }) => measuredAtMs)),
    totalBytes: sum(({ totalBytes }) => totalBytes),
    freeBytes: sum(({ freeBytes }) => freeBytes),
    parts,
    orphans: {
      files: sum(({ orphans }) => orphans.files),
      bytes: sum(({ orphans }) => orphans.bytes),
      oldestMs: Math.max(0, ...uses.map(({ orphans }) => orphans.oldestMs)),
    },
  };
}

const mb = (bytes: number): string => (bytes / MB).toFixed(1);
