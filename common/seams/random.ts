/** Randomness. Production draws it from the operating system; a simulator from its seed. */
export interface Random {
  /** @returns `length` random bytes in a buffer of their own */
  bytes(length: number): Buffer;
  /** @returns a uniform u32 */
  u32(): number;
  /** @returns a uniform number in [0, 1) */
  float(): number;
}
