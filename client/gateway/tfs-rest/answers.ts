import type { Context } from 'koa';
import { recordSpan } from '../../../common/format/record.ts';
import { NameFlag, type ReadReply } from '../../../common/wire/messages.ts';
import { fileCrcOf } from './file-crc.ts';
import type { FileName } from './file-name.ts';

/** Numbers are written as they are, digit by digit: FILE_ID does not fit into a double. */
export type JsonFields = Readonly<Record<string, string | number | bigint>>;

/** As yajl writes it when told to beautify: four spaces, a line for each field, a line end after the last brace. */
export function beautified(fields: JsonFields): string {
  const lines = Object.entries(fields).map(
    ([name, value]) =>
      `    ${JSON.stringify(name)}: ${typeof value === 'string' ? JSON.stringify(value) : value}`,
  );
  return `{\n${lines.join(',\n')}\n}\n`;
}

export function sendFields(ctx: Context, fields: JsonFields): void {
  const body = beautified(fields);
  send(ctx, ['Content-Type', 'application/json', 'Content-Length', String(Buffer.byteLength(body))]);
  ctx.res.end(body);
}

/** 200 with nothing in it. */
export function sendDone(ctx: Context): void {
  send(ctx, ['Content-Length', '0']);
  ctx.res.end();
}

/** The head of a 200. Nothing of this interface is for a cache, which would not hear of a delete: that is `/images`. */
export function send(ctx: Context, headers: readonly string[]): void {
  ctx.respond = false;
  ctx.res.writeHead(200, [
    ...headers,
    ...['Cache-Control', 'no-store'],
    ...['X-Content-Type-Options', 'nosniff'],
    ...['X-Request-Id', ctx.state['requestId'] as string],
  ]);
}

const STATUS_DELETED = 1;
const STATUS_HIDDEN = 4;

/** The facts of a file under the names that TFS has for them. */
export function fileFields({ key, name }: FileName, facts: ReadReply): JsonFields {
  const time = fileTime(facts.mtimeMs);
  return {
    FILE_NAME: name,
    BLOCK_ID: key.block,
    // Where TFS has the hash of the suffix, names of this store have their secret number.
    FILE_ID: (BigInt(key.cookie) << 32n) | BigInt(key.fileId),
    // Only DataServers know where in its block a record is.
    OFFSET: 0,
    SIZE: facts.size,
    OCCUPY_SIZE: recordSpan(facts.size),
    MODIFY_TIME: time,
    CREATE_TIME: time,
    STATUS:
      ((facts.nameFlags & NameFlag.DELETED) !== 0 ? STATUS_DELETED : 0) |
      ((facts.nameFlags & NameFlag.HIDDEN) !== 0 ? STATUS_HIDDEN : 0),
    CRC: fileCrcOf(facts.dataCrc, facts.size),
  };
}

const HOURS_AHEAD = 8;

/**
 * As nginx-tfs writes the time of Taobao's clocks: the date of Greenwich, and its hour with eight added to it, which in the
 * evening is more than 23. Clients that read it have come to take the eight off again.
 */
export function fileTime(ms: number): string {
  const [, start, hour, rest] = /^(.*) (\d\d)(:.*) GMT$/.exec(new Date(ms).toUTCString())!;
  const ahead = String(Number(hour) + HOURS_AHEAD).padStart(2, '0');
  return `${start} ${ahead}${rest} UTC+0800`;
}
