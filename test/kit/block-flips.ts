import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { RECORD_HEADER_BYTES, recordHeaderBytes, recordPadding } from '../../common/format/record.ts';
import { sourceOfBuffer } from '../../common/format/source.ts';
import { decodeSuperblock } from '../../common/format/superblock.ts';
import { walkBlock } from '../../common/format/walk.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import type { SeededRandom } from './seeded-random.ts';

export const FLIP_KINDS = ['header', 'payload', 'padding', 'superblock'] as const;
export type FlipKind = (typeof FLIP_KINDS)[number];

/** One byte of a block file that was changed. */
export interface Flip {
  readonly path: string;
  readonly offset: number;
  readonly kind: FlipKind;
  readonly before: number;
  readonly after: number;
}

/** Where in a block file something can be damaged so that it matters. */
export interface Layout {
  readonly path: string;
  readonly records: readonly { readonly offset: number; readonly size: number }[];
}

export async function layoutOf(path: string, bytes: Buffer): Promise<Layout | undefined> {
  const superblock = decodeSuperblock(bytes);
  if (!superblock.ok) return undefined;
  const records: { offset: number; size: number }[] = [];
  await walkBlock(sourceOfBuffer(bytes), superblock.value, {
    onRecord: ({ header, offset }) => void records.push({ offset, size: header.size }),
  });
  return { path, records };
}

/** Changes one byte; never the same one twice. @returns undefined where there is nothing of that kind */
export function flip(
  layout: Layout,
  kind: FlipKind,
  { random, taken }: { readonly random: SeededRandom; readonly taken: Set<string> },
): Flip | undefined {
  const offset = placeOf(layout, kind, random);
  if (offset === undefined || taken.has(`${layout.path}@${offset}`)) return undefined;
  taken.add(`${layout.path}@${offset}`);
  const before = byteAt(layout.path, offset);
  const after = before ^ (1 << random.below(8));
  const file = openSync(layout.path, 'r+');
  writeSync(file, Buffer.from([after]), 0, 1, offset);
  closeSync(file);
  return { path: layout.path, offset, kind, before, after };
}

/** Whether the damage is still there. */
export const isFlipped = ({ path, offset, after }: Flip): boolean => byteAt(path, offset) === after;

function placeOf({ records }: Layout, kind: FlipKind, random: SeededRandom): number | undefined {
  if (kind === 'superblock') return random.below(SUPERBLOCK_BYTES);
  const fitting = kind === 'padding' ? records.filter(({ size }) => recordPadding(size) > 0) : records;
  if (fitting.length === 0) return undefined;
  const { offset, size } = random.pick(fitting);
  const payloadAt = offset + recordHeaderBytes(size);
  if (kind === 'header') return offset + random.below(RECORD_HEADER_BYTES);
  if (kind === 'payload') return payloadAt + random.below(size);
  return payloadAt + size + random.below(recordPadding(size));
}

function byteAt(path: string, offset: number): number {
  const file = openSync(path, 'r');
  const byte = Buffer.alloc(1);
  try {
    readSync(file, byte, 0, 1, offset);
  } finally {
    closeSync(file);
  }
  return byte[0]!;
}
