/** What a decoder answers. Decoders never throw: damaged bytes are an expected input, not an exception. */
export type Decoded<T> = { readonly ok: true; readonly value: T } | Rejected;

/** `why` is one clause for a person, such as "checksum mismatch". */
export interface Rejected {
  readonly ok: false;
  readonly why: string;
}

export const decoded = <T>(value: T): Decoded<T> => ({ ok: true, value });
export const rejected = (why: string): Rejected => ({ ok: false, why });

/** Four ASCII characters as the u32 that, little-endian, spells them in a hex dump. */
export const magic = (text: string): number => Buffer.from(text, 'latin1').readUInt32LE(0);
