/** The typed strings and numbers of the system: two things that must not be mixed up get two types. */

declare const brand: unique symbol;
type Branded<T, Name extends string> = T & { readonly [brand]: Name };

/** u32: 15 bits series (at least 1), 1 bit NameServer, 16 bits counter. */
export type BlockId = Branded<number, 'BlockId'>;
/** Position of a record in its block's index: dense, appended in order, at most {@link SLOT_MAX}. */
export type Slot = Branded<number, 'Slot'>;
/** u32 inside a name: a slot, or an alias id (bit 31 set). */
export type FileId = Branded<number, 'FileId'>;
/** u32 inside a name that makes it unguessable: 31 random bits; bit 31 set marks an imported TFS suffix hash. */
export type Cookie = Branded<number, 'Cookie'>;
/** A DataServer, 1..65535, for the life of its mount. */
export type ServerId = Branded<number, 'ServerId'>;
/** How often the DataServer of a mount was started; grows by one each time, durable before it is used. */
export type Incarnation = Branded<number, 'Incarnation'>;
/** u48: the reign of one leading NameServer. */
export type Epoch = Branded<number, 'Epoch'>;
/** u32, random, never 0: the one write session of a block's life. */
export type Session = Branded<number, 'Session'>;
/** Milliseconds: since the Unix epoch for a date, of the monotonic clock for an interval. */
export type Millis = Branded<number, 'Millis'>;

export const ALIAS_BIT = 0x8000_0000;
/** Slot words in memory keep 27 bits of offset and 5 of flags; a 64 MiB block of empty pictures stays below this. */
export const SLOT_MAX = (1 << 24) - 1;

export const isAlias = (id: FileId): boolean => id >= ALIAS_BIT;

export const blockId = (value: number): BlockId => u32(value, 'block id') as BlockId;
export const fileId = (value: number): FileId => u32(value, 'file id') as FileId;
export const cookieOf = (value: number): Cookie => u32(value, 'cookie') as Cookie;
export const sessionOf = (value: number): Session => u32(value, 'session') as Session;

export function serverId(value: number): ServerId {
  if (!Number.isInteger(value) || value < 1 || value > 0xffff)
    throw new RangeError(`server id ${value} is not in 1..65535`);
  return value as ServerId;
}

export function epochOf(value: number): Epoch {
  if (!Number.isInteger(value) || value < 0 || value >= 2 ** 48)
    throw new RangeError(`epoch ${value} is not a u48`);
  return value as Epoch;
}

export function incarnationOf(value: number): Incarnation {
  return u32(value, 'incarnation') as Incarnation;
}

function u32(value: number, what: string): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff)
    throw new RangeError(`${what} ${value} is not a u32`);
  return value;
}

/** The version of a block's configuration; totally ordered by (epoch, n). */
export interface Version {
  readonly epoch: Epoch;
  readonly n: number;
}

/** @returns negative, 0 or positive as a is older than, the same as or newer than b */
export function compareVersions(a: Version, b: Version): number {
  return a.epoch - b.epoch || a.n - b.n;
}

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export const formatHostPort = (a: HostPort): string =>
  `${a.host.includes(':') ? `[${a.host}]` : a.host}:${a.port}`;
