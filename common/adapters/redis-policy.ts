/**
 * What a Redis does when its memory is full, in its own words, from its answer to INFO memory: hosted servers often
 * forbid CONFIG, and tell it here all the same.
 *
 * @returns undefined when it does not tell
 */
export const evictionPolicyIn = (infoMemory: string): string | undefined =>
  /^maxmemory_policy:(\S+)/m.exec(infoMemory)?.[1];
