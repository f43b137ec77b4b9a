import { InvalidArgumentError } from 'commander';

/** The number of a DataServer, as it is given on a command line. */
export function serverNumber(text: string): number {
  const id = Number(text);
  if (Number.isInteger(id) && id >= 1 && id <= 65_535) return id;
  throw new InvalidArgumentError('it is a whole number from 1.');
}
