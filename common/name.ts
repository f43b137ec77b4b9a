/**
 * Names of pictures, as Taobao's TFS gives them: 18 characters that are the address of a picture.
 *
 * `T`, the digit of the cluster, then 16 characters for 12 bytes: block id, file id and cookie, each u32 little-endian.
 * The bytes are XORed with a key that repeats from the first of them, and every 3 of them, taken big-endian, become 4
 * characters of an alphabet. What follows the 18 characters is a suffix such as `.jpg`: not part of the address.
 * Alphabet and key are those of the TFS that was published; a cluster may have others (see {@link CodecProfile}).
 */

import { assert } from './errors.ts';
import type { BlockId, Cookie, FileId } from './ids.ts';

/** `T`, cluster digit, 16 characters. */
export const NAME_LENGTH = 18;
const ADDRESS_BYTES = 12;
const NAME_TYPE = 'T';

/** How one cluster spells the 12 bytes. */
export interface CodecProfile {
  /** 64 different ASCII characters; the place of each is its value. */
  readonly table: string;
  /** XORed over the bytes, repeating; empty for none. */
  readonly key: string;
}

export const TFS_PROFILE: CodecProfile = {
  table: '0JoU8EaN3xf19hIS2d.6pZRFBYurMDGw7K5m4CyXsbQjg_vTOAkcHVtzqWilnLPe',
  key: 'Taobao-inc',
};

export interface NameParts {
  /** 1..9 in a cluster that is configured; 0 also has a spelling. */
  readonly clusterDigit: number;
  readonly block: BlockId;
  readonly fileId: FileId;
  /** Bit 31 set: the suffix hash of a name that was imported from a real TFS. */
  readonly cookie: Cookie;
}

export interface DecodedName extends NameParts {
  /** What follows the 18 characters, to be checked against the suffix stored with the picture; often empty. */
  readonly tail: string;
}

export interface NameCodec {
  /** @returns 18 characters */
  encode(parts: NameParts): string;
  /** @returns undefined for anything that `encode` cannot have made; never throws */
  decode(text: string): DecodedName | undefined;
}

export function nameCodec(profile: CodecProfile): NameCodec {
  const table = Buffer.from(profile.table, 'latin1');
  assert(table.length === 64 && new Set(table).size === 64, 'an alphabet is 64 different characters');
  assert(
    table.every((char) => char > 0x20 && char < 0x7f),
    'an alphabet is printable',
  );
  const values = new Int8Array(128).fill(-1);
  table.forEach((char, value) => {
    values[char] = value;
  });
  const key = Buffer.from(profile.key, 'latin1');
  const mask = Buffer.alloc(ADDRESS_BYTES);
  if (key.length > 0) for (let i = 0; i < ADDRESS_BYTES; i++) mask[i] = key[i % key.length]!;
  const bytes = Buffer.alloc(ADDRESS_BYTES);
  const chars = Buffer.alloc(NAME_LENGTH);

  return {
    encode(parts) {
      assert(
        Number.isInteger(parts.clusterDigit) && parts.clusterDigit >= 0 && parts.clusterDigit <= 9,
        'a digit',
      );
      bytes.writeUInt32LE(parts.block, 0);
      bytes.writeUInt32LE(parts.fileId, 4);
      bytes.writeUInt32LE(parts.cookie, 8);
      chars[0] = NAME_TYPE.charCodeAt(0);
      chars[1] = 0x30 + parts.clusterDigit;
      for (let i = 0, at = 2; i < ADDRESS_BYTES; i += 3, at += 4) {
        const three =
          ((bytes[i]! ^ mask[i]!) << 16) |
          ((bytes[i + 1]! ^ mask[i + 1]!) << 8) |
          (bytes[i + 2]! ^ mask[i + 2]!);
        chars[at] = table[three >>> 18]!;
        chars[at + 1] = table[(three >>> 12) & 63]!;
        chars[at + 2] = table[(three >>> 6) & 63]!;
        chars[at + 3] = table[three & 63]!;
      }
      return chars.toString('latin1');
    },

    decode(text) {
      if (text.length < NAME_LENGTH || text[0] !== NAME_TYPE) return undefined;
      const clusterDigit = text.charCodeAt(1) - 0x30;
      if (clusterDigit < 0 || clusterDigit > 9) return undefined;
      for (let i = 0, at = 2; i < ADDRESS_BYTES; i += 3, at += 4) {
        // 16 characters hold exactly 12 bytes, so a name has no second spelling once every character is known.
        let three = 0;
        for (let k = 0; k < 4; k++) {
          const char = text.charCodeAt(at + k);
          const value = char < 128 ? values[char]! : -1;
          if (value < 0) return undefined;
          three = (three << 6) | value;
        }
        bytes[i] = (three >>> 16) ^ mask[i]!;
        bytes[i + 1] = ((three >>> 8) & 0xff) ^ mask[i + 1]!;
        bytes[i + 2] = (three & 0xff) ^ mask[i + 2]!;
      }
      return {
        clusterDigit,
        block: bytes.readUInt32LE(0) as BlockId,
        fileId: bytes.readUInt32LE(4) as FileId,
        cookie: bytes.readUInt32LE(8) as Cookie,
        tail: text.slice(NAME_LENGTH),
      };
    },
  };
}

const tfsCodec = nameCodec(TFS_PROFILE);

/** {@link NameCodec.encode} of the published TFS alphabet. */
export const encodeName = (parts: NameParts): string => tfsCodec.encode(parts);

/** {@link NameCodec.decode} of the published TFS alphabet. */
export const decodeName = (text: string): DecodedName | undefined => tfsCodec.decode(text);

/** The suffix hash of TFS over the UTF-8 bytes, as signed ones: 0 for no suffix, else bit 31 is set. */
export function suffixHash(suffix: string): number {
  if (suffix === '') return 0;
  let hash = 0;
  for (const byte of Buffer.from(suffix, 'utf8')) hash = Math.imul(hash + ((byte << 24) >> 24), 7);
  return (hash | 0x8000_0000) >>> 0;
}
