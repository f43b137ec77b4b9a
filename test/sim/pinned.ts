import type { RunOptions } from './run.ts';

/** A seed that once failed, and what it found then. */
export interface Pinned {
  readonly seed: number;
  readonly options?: RunOptions;
  /** The number of its row in docs/track-record.md, or what was wrong with the simulator. */
  readonly why: string;
}

/**
 * Run by `npm test` with every change. Code that changes changes what a seed does, so what keeps a defect away is the test
 * that its row names; these seeds cost little, and have found something before.
 */
export const PINNED: readonly Pinned[] = [
  {
    seed: 9,
    why: '5: an empty block stayed for ever; and servers were never at rest while every block was sealed after seconds',
  },
  { seed: 20, why: '6: a scrub went round and round after a clock was set back' },
  {
    seed: 13,
    options: { without: ['disk-hangs'] },
    why: '10: a seal waited for a block that had gone',
  },
  { seed: 500238, why: '37: a disk that was set back ten seconds was let in, and a picture was not there' },
  { seed: 400049, why: '38: an entry of the SHA-1 index led to nothing' },
  { seed: 500600, why: '39: sealed with a record lost, and not again with it' },
  { seed: 400364, why: '41: a configuration that had only begun went with its server' },
  { seed: 520152, why: '43: a doubt was cast anew and taken back, again and again' },
  { seed: 530028, why: '44: an empty block waited for its seal after a failover' },
  { seed: 600783, why: '45: a file that the disk did not remove was forgotten' },
  { seed: 700778, why: '46: the same, where a start could not remove it' },
  { seed: 900299, why: '48: a replica whose server had not obeyed yet was never told what it lacked' },
  { seed: 1002009, why: '49: a repair left the end of a file in the page cache' },
  { seed: 1001985, why: '50: new doubts took the turns of old ones' },
  { seed: 1001296, why: '51: the sequencer of a configuration that had only begun lost its log' },
  { seed: 1002012, why: '52: a replica that lacked an operation was confirmed' },
  { seed: 1004283, why: '53: a header was read once more, and came otherwise' },
  { seed: 1004054, why: '54: a replica that had the delete was sure of nothing' },
  { seed: 1004231, why: '55: the age of a disk was told before it was durable' },
  { seed: 1005456, why: '56: SHA-1s of another file than the index' },
  { seed: 1005610, why: '57: a member was confirmed while it was left out' },
  { seed: 1005022, why: '58: the only clock that was heard was the wrong one' },
  { seed: 1202155, why: '59: a replica became current while it read' },
  { seed: 1201775, why: 'a record that nobody was told of was lost, and its block had to stay suspect' },
  { seed: 1500846, why: '63: a block that held nothing was remembered by who had not heard of its seal' },
  { seed: 1800723, why: '66: what was left of a block with a lost record was never copied' },
  {
    seed: 1801047,
    why: '67: a replica without its superblock, sealed longer than the others, stayed as it was',
  },
  { seed: 2000679, why: '68: one that was left out had a configuration begun every second' },
  { seed: 2100138, why: 'a copy that was made whole in place did not count when its disk was emptied' },
  { seed: 2400113, why: '73: the ops log of a copy that could not be made stayed' },
  { seed: 2700574, why: '75: a file of an earlier generation stayed, uncounted' },
  { seed: 2701021, why: '76: what was left of a copy of a block that held nothing' },
  { seed: 1903593, why: 'a disk that was left alone had lost a write: no store could tell' },
  { seed: 1201091, why: 'one call of a slow disk of a slow process took three minutes' },
  { seed: 510084, why: 'the observer asked for what a file had before it was damaged' },
  {
    seed: 520218,
    why: 'the observer asked a member of the write set for what a later configuration had compacted',
  },
  { seed: 600513, why: 'the last checks looked while a block was compacted' },
];
