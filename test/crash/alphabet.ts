import * as files from './letters-files.ts';
import * as mount from './letters-mount.ts';
import * as names from './letters-names.ts';
import * as records from './letters-records.ts';
import type { World } from './world.ts';

/** One operation on a mount. Where it does not apply, it is refused or does nothing. */
export type Letter = (world: World) => Promise<void>;

export const ALPHABET = {
  put: records.put,
  'put-member': records.member,
  'put-large': records.large,
  create: records.create,
  spare: records.spare,
  fence: records.fence,
  seal: records.seal,
  'seal-short': records.sealShort,
  reseal: records.reseal,
  complete: records.complete,
  delete: names.remove,
  undelete: names.undelete,
  hide: names.hide,
  alias: names.alias,
  burst: names.burst,
  purge: names.purge,
  configure: names.configure,
  prepare: files.prepare,
  compact: files.compact,
  sweep: files.sweep,
  leftovers: files.leftovers,
  drop: files.drop,
  receive: files.receive,
  repair: files.repair,
  promise: mount.promise,
  learn: mount.learn,
  nonce: mount.nonce,
  restart: mount.restart,
  power: mount.power,
  'delete-full': mount.removeFull,
  'drop-full': mount.dropFull,
  'promise-full': mount.promiseFull,
} satisfies Record<string, Letter>;

export type LetterName = keyof typeof ALPHABET;
export const LETTERS = Object.keys(ALPHABET) as readonly LetterName[];

export const isLetter = (text: string): text is LetterName => text in ALPHABET;
