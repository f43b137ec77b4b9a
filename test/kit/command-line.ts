/** Ends the process as one that was asked for what there is not. */
export function refuse(why: string): never {
  console.error(why);
  process.exit(2);
}

/** The value of `--name`, a u32; else {@link refuse}s it. */
export function wholeOption(name: string, text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value <= 0xffff_ffff) return value;
  return refuse(`--${name} is a whole number, not "${text}"`);
}
