import { createHash } from 'node:crypto';
import { copyFile, link, mkdir, open, rename, unlink, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { extensionsOf, isPrivate } from '../../client/gateway/media.ts';
import { TfsError } from '../../common/errors.ts';
import { nameFlagsOf, type OpsState, sealOf } from '../../common/format/ops.ts';
import { type RecordHeader, recordHeaderBytes } from '../../common/format/record.ts';
import type { ByteSource } from '../../common/format/source.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import { type WalkedRecord, walkBlock } from '../../common/format/walk.ts';
import type { BlockId, Cookie, FileId } from '../../common/ids.ts';
import { encodeName } from '../../common/name.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import { walkWithoutSuperblock } from './blind-walk.ts';

export interface SalvageOptions {
  readonly source: ByteSource;
  /** Absent where it is damaged: then records are believed by the SHA-1 of their payload. */
  readonly superblock: Superblock | undefined;
  readonly block: BlockId;
  /** What happened to the pictures since; absent where there is no ops log. */
  readonly ops: OpsState | undefined;
  readonly outputDirectory: string;
  readonly clusterDigit: number;
  /** Extract deleted pictures too. */
  readonly includeDeleted: boolean;
  /** Write payloads that fail their checksum too, as `NAME.damaged.EXT`. */
  readonly keepDamaged: boolean;
  /** Sees each record that was looked at, in file order. */
  readonly onItem?: (item: SalvagedItem) => void;
  readonly onProgress?: (bytes: number, report: SalvageReport) => void;
}

export interface SalvagedItem {
  /** Of the record itself; second names are further items. */
  readonly name: string;
  readonly slot: number;
  readonly offset: number;
  readonly size: number;
  readonly sha1: string;
  /** Was served to those alone who had a signed URL. */
  readonly private: boolean;
  readonly outcome: 'extracted' | 'second-name' | 'deleted' | 'damaged';
  /** In the output directory; absent where none was written. */
  readonly file: string | undefined;
}

export interface SalvageReport {
  /** Records with a valid header. */
  records: number;
  /** Pictures written, each once. */
  extracted: number;
  /** Further files for second names of the same pictures. */
  secondNames: number;
  /** Pictures left out because all their names are deleted. */
  deleted: number;
  /** Records whose payload fails its checksum. */
  damaged: number;
  /** Spans of the file in which no record verifies although records must have been there. */
  holes: number;
  /** Bytes of pictures written. */
  bytes: number;
}

/**
 * Takes every picture out of one block file. Needs nothing but the file: no server, no index, no other replica. What
 * does not verify is skipped by looking on for the next valid header.
 *
 * @throws TfsError IO, DISK_FULL and the like when the output cannot be written
 */
export async function salvage(options: SalvageOptions): Promise<SalvageReport> {
  await mkdir(options.outputDirectory, { recursive: true });
  const run = new Salvage(options);
  const onRecord = (record: WalkedRecord): Promise<void> => run.take(record);
  if (options.superblock === undefined) {
    run.report.holes = await walkWithoutSuperblock(options.source, onRecord);
    return run.report;
  }
  const seal = options.ops && sealOf(options.ops, options.superblock.generation);
  const walk = await walkBlock(options.source, options.superblock, {
    onRecord,
    ...(seal === undefined ? {} : { proven: seal }),
  });
  run.report.holes = walk.holes.length;
  return run.report;
}

class Salvage {
  readonly report: SalvageReport = {
    records: 0,
    extracted: 0,
    secondNames: 0,
    deleted: 0,
    damaged: 0,
    holes: 0,
    bytes: 0,
  };
  readonly #options: SalvageOptions;
  /** Target slot -> its second names. */
  readonly #aliases = new Map<number, { id: FileId; cookie: Cookie }[]>();

  constructor(options: SalvageOptions) {
    this.#options = options;
    const table = options.ops?.aliases;
    for (let i = 0; table !== undefined && i < table.count; i++) {
      const target = table.targetAt(i);
      const names = this.#aliases.get(target) ?? [];
      names.push({ id: table.idAt(i), cookie: table.cookieAt(i) });
      this.#aliases.set(target, names);
    }
  }

  async take(record: WalkedRecord): Promise<void> {
    const { report } = this;
    const { header, offset, span } = record;
    report.records++;
    const extension = extensionsOf(header.mediaType)[0] ?? '';
    const own = this.#nameOf(header.slot as number as FileId, header.cookie);
    const item = {
      ...{ slot: header.slot, offset, size: header.size, sha1: header.sha1.toString('hex') },
      private: isPrivate(header.mediaType),
    };
    const emit = (name: string, outcome: SalvagedItem['outcome'], file?: string): void =>
      this.#options.onItem?.({ ...item, name, outcome, file });
    const names = this.#wantedNames(header, own);
    if (names.length === 0) {
      report.deleted++;
      emit(own, 'deleted');
    } else if (!record.payloadOk || !(await this.#writeVerified(record, names[0]! + extension))) {
      report.damaged++;
      emit(own, 'damaged', await this.#writeDamaged(record, own, extension));
    } else {
      const first = names[0]! + extension;
      report.extracted++;
      report.bytes += header.size;
      emit(names[0]!, 'extracted', first);
      for (const name of names.slice(1)) {
        await this.#linkOrCopy(first, name + extension);
        report.secondNames++;
        emit(name, 'second-name', name + extension);
      }
    }
    this.#options.onProgress?.(offset + span, report);
  }

  #nameOf(fileId: FileId, cookie: Cookie): string {
    const { block, clusterDigit } = this.#options;
    return encodeName({ clusterDigit, block, fileId, cookie });
  }

  /** The names under which the picture is to be found; none for one that is deleted under all of them. */
  #wantedNames(header: RecordHeader, own: string): string[] {
    const { ops, includeDeleted } = this.#options;
    const wanted = (fileId: FileId): boolean =>
      includeDeleted || ops === undefined || ((nameFlagsOf(ops, fileId) ?? 0) & NameFlag.DELETED) === 0;
    const aliases = this.#aliases.get(header.slot) ?? [];
    return [
      ...(wanted(header.slot as number as FileId) ? [own] : []),
      ...aliases.filter(({ id }) => wanted(id)).map(({ id, cookie }) => this.#nameOf(id, cookie)),
    ];
  }

  /** The file gets its name only when the SHA-1 of what was written is the record's. */
  async #writeVerified(record: WalkedRecord, fileName: string): Promise<boolean> {
    const temporary = join(this.#options.outputDirectory, `${fileName}.part`);
    const sha1 = await this.#copyPayload(record, temporary);
    if (!sha1.equals(record.header.sha1)) {
      await unlink(temporary);
      return false;
    }
    await this.#finish(temporary, fileName, record.header.mtimeMs);
    return true;
  }

  async #writeDamaged(record: WalkedRecord, name: string, extension: string): Promise<string | undefined> {
    if (!this.#options.keepDamaged) return undefined;
    const fileName = `${name}.damaged${extension}`;
    const temporary = join(this.#options.outputDirectory, `${fileName}.part`);
    await this.#copyPayload(record, temporary);
    await this.#finish(temporary, fileName, record.header.mtimeMs);
    return fileName;
  }

  /** @returns SHA-1 of what was written */
  async #copyPayload(record: WalkedRecord, path: string): Promise<Buffer> {
    const { header, offset, payload } = record;
    const hash = createHash('sha1');
    try {
      const file = await open(path, 'w');
      try {
        for await (const piece of payload === undefined ? this.#pieces(header, offset) : [payload]) {
          hash.update(piece);
          for (let done = 0; done < piece.length; ) {
            // Not a short write but the error of the next one says that a disk is full.
            done += (await file.write(piece, done)).bytesWritten;
          }
        }
      } finally {
        await file.close();
      }
    } catch (cause) {
      throw writeError(path, cause);
    }
    return hash.digest();
  }

  async *#pieces(header: RecordHeader, offset: number): AsyncGenerator<Buffer> {
    const buffer = Buffer.allocUnsafe(1 << 20);
    const start = offset + recordHeaderBytes(header.size);
    for (let done = 0; done < header.size; ) {
      const piece = buffer.subarray(0, Math.min(buffer.length, header.size - done));
      const got = await this.#options.source.read(piece, start + done);
      if (got === 0) return;
      yield piece.subarray(0, got);
      done += got;
    }
  }

  async #finish(temporary: string, fileName: string, mtimeMs: number): Promise<void> {
    const path = join(this.#options.outputDirectory, fileName);
    const seconds = Number.isFinite(mtimeMs) && Math.abs(mtimeMs) < 8.64e15 ? mtimeMs / 1000 : 0;
    try {
      await utimes(temporary, seconds, seconds);
      await rename(temporary, path);
    } catch (cause) {
      throw writeError(path, cause);
    }
  }

  async #linkOrCopy(from: string, to: string): Promise<void> {
    const { outputDirectory } = this.#options;
    const temporary = join(outputDirectory, `${to}.part`);
    try {
      await unlink(temporary).catch(() => undefined);
      // Not every file system knows links.
      await link(join(outputDirectory, from), temporary).catch(() =>
        copyFile(join(outputDirectory, from), temporary),
      );
      await rename(temporary, join(outputDirectory, to));
    } catch (cause) {
      throw writeError(join(outputDirectory, to), cause);
    }
  }
}

function writeError(path: string, cause: unknown): TfsError {
  if (cause instanceof TfsError) return cause;
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new TfsError('DISK_FULL', `${path}: no space left; give -o a directory on a larger disk`, {
      cause,
    });
  return new TfsError('IO', `${path}: cannot write it: ${message}`, { cause });
}
