import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildIdx, buildOpsFile, exampleBlock, exampleOps, rewrittenOps } from './example-block.ts';
import { buildDropLog } from './example-drops.ts';

/**
 * Bytes that must never change: what this version writes, every later one reads. Kept as files in
 * test/testdata/golden; `node --import tsx test/kit/write-golden.ts` writes them and the worked examples again, for
 * the day when a format gets a new version.
 */
export const GOLDEN_DIRECTORY = join(import.meta.dirname, '..', 'testdata', 'golden');

export function goldenFiles(): Record<string, Buffer> {
  const block = exampleBlock(2);
  const large = exampleBlock(3).records[2]!;
  return {
    // A sealed block with two pictures; the three files can be given to `tfs dump` and `tfs salvage`.
    '65537.0.blk': block.bytes,
    '65537.0.ops': buildOpsFile(exampleOps(block)),
    '65537.0.idx': buildIdx(block),
    // The log as it is rewritten, and what a compaction then adds to it.
    'rewritten.ops': buildOpsFile(rewrittenOps(block), block.superblock, 1),
    // Header and chunk table of a picture over 64 KiB, as it would follow in that block.
    'large.record': large.headerBytes,
    'drop.log': buildDropLog(),
  };
}

export const readGolden = (name: string): Buffer => readFileSync(join(GOLDEN_DIRECTORY, name));

/** A hex dump as it stands in docs/formats.md. @param start and end in bytes; lines of zeros are folded to one `*` */
export function hexDump(bytes: Buffer, start: number, end: number): string {
  const lines: string[] = [];
  let folded = false;
  for (let at = start; at < end; at += 16) {
    const row = bytes.subarray(at, Math.min(at + 16, end));
    const zero = row.every((byte) => byte === 0);
    if (zero && at + 16 < end && at > start) {
      if (!folded) lines.push('*');
      folded = true;
      continue;
    }
    folded = false;
    const hex = row.toString('hex').replace(/(..)/g, '$1 ').trimEnd();
    const text = [...row]
      .map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.'))
      .join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${hex.padEnd(47)}  ${text}`);
  }
  return lines.join('\n');
}

const EXAMPLE = /(<!-- golden (\S+) (\d+) (\d+) -->\n+```text\n)([\s\S]*?)(\n```)/g;

export interface DocumentExample {
  readonly file: string;
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** The marked hex dumps of a document. */
export function examplesOf(markdown: string): DocumentExample[] {
  return [...markdown.matchAll(EXAMPLE)].map((match) => ({
    file: match[2]!,
    start: Number(match[3]),
    end: Number(match[4]),
    text: match[5]!,
  }));
}

export function withExamples(markdown: string, files: Record<string, Buffer>): string {
  return markdown.replace(
    EXAMPLE,
    (_all, head: string, file: string, start: string, end: string, _old, tail: string) => {
      return `${head}${hexDump(files[file]!, Number(start), Number(end))}${tail}`;
    },
  );
}
