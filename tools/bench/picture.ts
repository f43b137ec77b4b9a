/** A PNG signature and an IHDR of 16 x 16: enough to be taken for a picture, and known from its first bytes. */
export const PICTURE_HEAD = Buffer.from(
  '89504e470d0a1a0a0000000d49484452000000100000001008020000009091683600000000',
  'hex',
);
const COUNTER_CHARS = 16;

/** A body of exactly `size` bytes that looks like a picture and is unlike every other `n`. */
export function pictureOf(n: number, size: number): Buffer {
  const body = Buffer.alloc(size, 'x');
  PICTURE_HEAD.copy(body, 0);
  body.write(String(n).padStart(COUNTER_CHARS, '0'), PICTURE_HEAD.length, 'latin1');
  return body;
}

/** The same, made inside wrk: a Lua expression over the counter `n`. */
export function luaPicture(size: number): { readonly setup: string; readonly expression: string } {
  const head = [...PICTURE_HEAD].map((byte) => `\\${String(byte).padStart(3, '0')}`).join('');
  const rest = size - PICTURE_HEAD.length - COUNTER_CHARS;
  return {
    setup: `local head = "${head}"\nlocal tail = string.rep("x", ${rest})`,
    expression: `head .. string.format("%0${COUNTER_CHARS}d", n) .. tail`,
  };
}
