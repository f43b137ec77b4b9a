import { z } from 'zod';

/** May be negative for `rounding`: a file with holes takes less than its size. */
const bytes = z.number().int();

/** What the bytes below a mount are. They add up to what its files and directories take of the file system. */
export const SPACE_PARTS = {
  /** Records with a name that is not deleted, with their headers and padding. */
  live: 'records with a live name',
  /** Records all of whose names are deleted, and that may be undeleted. */
  inWindow: 'deleted, and may be undeleted',
  /** Records all of whose names are deleted for good: the next compaction takes them out. */
  garbage: 'deleted for good',
  lost: 'records that verify on no replica',
  superblocks: 'heads of blocks',
  preallocated: 'ends of blocks that are being written',
  generations: 'next and earlier generations of blocks',
  quarantined: 'blocks that cannot be read',
  opsLogs: 'operations of blocks',
  indexes: 'indexes of blocks',
  spares: 'files ready to become blocks',
  reserve: 'kept free for deletions',
  trash: 'damaged files that were replaced',
  surplus: 'records that were set aside when a block was sealed',
  kv: 'the SHA-1 index',
  service: 'files of the server itself',
  temporary: 'files being made, or left by a crash',
  unknown: 'files of nobody',
  directories: 'directories',
  rounding: 'what the file system adds to fill its blocks',
} as const;
export type SpacePart = keyof typeof SPACE_PARTS;
export const SPACE_PART_NAMES = Object.keys(SPACE_PARTS) as readonly SpacePart[];

const zParts = z.object(
  Object.fromEntries(SPACE_PART_NAMES.map((part) => [part, bytes.default(0)])) as Record<
    SpacePart,
    z.ZodDefault<typeof bytes>
  >,
);
export type SpaceParts = z.infer<typeof zParts>;

/** Files that no block and no server needs. */
export const zOrphans = z.object({
  files: z.number().int(),
  bytes,
  /** Of the oldest one. */
  oldestMs: z.number(),
});
export type Orphans = z.infer<typeof zOrphans>;

export const zSpaceUse = z.object({
  /** Wall clock there. */
  measuredAtMs: z.number(),
  /** Of the file system, like what is free on it. */
  totalBytes: z.number(),
  freeBytes: z.number(),
  parts: zParts,
  orphans: zOrphans,
});
export type SpaceUse = z.infer<typeof zSpaceUse>;

export const BLOCK_SPACE_ROWS_MAX = 100_000;

/** Operator -> DataServer: the blocks with the most garbage, then those with the most that is deleted. */
export const zBlockSpace = z.object({ rows: z.number().int().min(1).max(BLOCK_SPACE_ROWS_MAX) });
/** Its answer, as a payload. All files of each block. */
export const zBlockSpaceReply = z.object({
  /** All there are. */
  blocks: z.number().int(),
  rows: z.array(z.object({ block: z.number().int(), parts: zParts })).max(BLOCK_SPACE_ROWS_MAX),
});
export type BlockSpaceReply = z.infer<typeof zBlockSpaceReply>;

export const noParts = (): Record<SpacePart, number> =>
  Object.fromEntries(SPACE_PART_NAMES.map((part) => [part, 0])) as Record<SpacePart, number>;

/** All that the mount takes. */
export const takenBytes = (parts: Readonly<Record<SpacePart, number>>): number =>
  SPACE_PART_NAMES.reduce((sum, part) => sum + parts[part], 0);

/**
 * What of the file system is neither free nor below the mount: its own tables, what it keeps for root, and whatever else
 * is on it. Other mounts too, where they share it.
 */
export const elsewhereBytes = ({ totalBytes, freeBytes, parts }: SpaceUse): number =>
  Math.max(0, totalBytes - freeBytes - takenBytes(parts));
