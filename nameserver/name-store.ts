import type { z } from 'zod';
import { crc32 } from '../common/crc.ts';
import { TfsError } from '../common/errors.ts';
import type { Kv, KvOperation, KvRange } from '../common/seams/kv.ts';

/**
 * The small durable facts of a NameServer in its {@link Kv}: JSON, each with a CRC, because the store below notices
 * damage only by luck. A damaged fact reads as one that is not there; every fact is one that the DataServers can tell
 * again, or that only makes the NameServer more careful when it is missing.
 *
 * Keys: one letter for the kind, then what it needs. `d` drained members, `j` paused jobs, `k` known members,
 * `m` u16 member, `r` reign, `s` series,
 * `w` whole, `x` removed members, `p` u16 page u8 segment (see `checkpoint.ts`).
 */
export class NameStore {
  readonly kv: Kv;

  constructor(kv: Kv) {
    this.kv = kv;
  }

  async read<T>(key: Buffer, schema: z.ZodType<T>): Promise<T | undefined> {
    const stored = await this.kv.get(key);
    return stored === undefined ? undefined : decode(stored, schema);
  }

  async *readAll<T>(range: KvRange, schema: z.ZodType<T>): AsyncGenerator<T> {
    for await (const [, stored] of this.kv.entries(range)) {
      const value = decode(stored, schema);
      if (value !== undefined) yield value;
    }
  }

  /** Resolves when durable. @throws TfsError IO, DISK_FULL that say what could not be kept */
  write(key: Buffer, value: object, what: string): Promise<void> {
    return this.writeAll([[key, value]], what);
  }

  /** All of them or none, with one sync. As {@link write}. */
  async writeAll(facts: readonly (readonly [key: Buffer, value: object])[], what: string): Promise<void> {
    try {
      const operations = facts.map(([key, value]) => ({ type: 'put' as const, key, value: encode(value) }));
      await this.kv.batch(operations, { sync: true });
    } catch (cause) {
      const code = cause instanceof TfsError ? cause.code : 'IO';
      throw new TfsError(code, `the NameServer could not keep ${what}: ${(cause as Error).message}`, {
        cause,
        retryAfterMs: 1000,
      });
    }
  }

  /** May be lost with the newest seconds before a power cut. */
  async writeLazily(operations: readonly KvOperation[]): Promise<void> {
    await this.kv.batch(operations);
  }
}

export const KNOWN_KEY = Buffer.from('k');
/** DataServers that were taken out of the cluster. */
export const REMOVED_KEY = Buffer.from('x');
/** Kinds of jobs that an operator has stopped. */
export const PAUSED_KEY = Buffer.from('j');
/** DataServers that are to be emptied. */
export const DRAINED_KEY = Buffer.from('d');
export const REIGN_KEY = Buffer.from('r');
export const SERIES_KEY = Buffer.from('s');
export const WHOLE_KEY = Buffer.from('w');
export const MEMBER_RANGE: KvRange = { gte: Buffer.from('m'), lt: Buffer.from('n') };

export function memberKey(server: number): Buffer {
  const key = Buffer.from('m\0\0', 'latin1');
  key.writeUInt16BE(server, 1);
  return key;
}

function encode(value: object): Buffer {
  const json = Buffer.from(JSON.stringify(value), 'utf8');
  const out = Buffer.allocUnsafe(4 + json.length);
  out.writeUInt32LE(crc32(json), 0);
  json.copy(out, 4);
  return out;
}

function decode<T>(stored: Buffer, schema: z.ZodType<T>): T | undefined {
  if (stored.length < 4 || crc32(stored.subarray(4)) !== stored.readUInt32LE(0)) return undefined;
  const parsed = schema.safeParse(JSON.parse(stored.toString('utf8', 4)));
  return parsed.success ? parsed.data : undefined;
}
