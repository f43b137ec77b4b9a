import { blockFileName } from '../../common/format/file-names.ts';
import { peekRecord, RECORD_HEADER_BYTES, recordSpan } from '../../common/format/record.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { BlockState } from '../../common/wire/messages.ts';
import type { SimDataServer } from './cluster.ts';
import type { SimMedium } from './disk.ts';
import type { CallKind } from './disk-seam.ts';
import type { Fault, Stage } from './faults.ts';
import type { FaultKind } from './plan.ts';

/** What clients stored, and what says what became of it; not the small files that a server refuses to start without. */
const BLOCK_FILES = /^blocks\/.*\.(blk|ops|idx)$/;

const BLOCK_FILE = /^blocks\/.*\.blk$/;
const BLOCK_SUFFIX = '.blk';

/** In the header of a record. */
const ACKED_LENGTH_AT = 24;

const anyOne = ({ cluster, random }: Stage): SimDataServer => random.pick(cluster.dataservers);

/** The only one whose disk may lose what it stored: of everything that is on it there is another copy. */
function theVictim({ cluster }: Stage): SimDataServer | undefined {
  const { victim } = cluster.plan;
  return victim === undefined ? undefined : cluster.dataServer(victim);
}

/** For a while; a server that only reads afterwards is started again, as an operator would. */
function trouble(
  stage: Stage,
  server: SimDataServer | undefined,
  begin: (medium: SimMedium) => void,
  end: (medium: SimMedium) => void,
): ReturnType<Fault> {
  if (server === undefined) return undefined;
  begin(server.medium);
  const mend = () => {
    end(server.medium);
    if (server.live?.store.readOnly !== undefined) server.node.kill();
  };
  return { lastsMs: stage.between(300, 9_000), mend, what: server.node.name };
}

function errors(stage: Stage, kinds: readonly CallKind[]): ReturnType<Fault> {
  const share = stage.random.pick([0.01, 0.1, 1]);
  const begin = (medium: SimMedium) => {
    medium.faults.errors = [...medium.faults.errors, { kinds, share }];
  };
  const end = (medium: SimMedium) => {
    medium.faults.errors = medium.faults.errors.filter((rule) => rule.kinds !== kinds);
  };
  return trouble(stage, anyOne(stage), begin, end);
}

/** A single one of the files under the blocks, now. */
function strike(
  stage: Stage,
  hit: (medium: SimMedium) => { readonly path: string } | undefined,
): ReturnType<Fault> {
  const server = theVictim(stage);
  const struck = server && hit(server.medium);
  return struck && { lastsMs: 1_000, what: `${server.node.name} ${struck.path}` };
}

/**
 * How much of its records a block file proves by itself to have been acknowledged. Of what lies behind nobody could tell,
 * from this disk alone, whether it was damaged or never written to its end.
 */
function provenBytesOf(bytes: Buffer | undefined): number {
  let length = SUPERBLOCK_BYTES;
  for (let at = SUPERBLOCK_BYTES; bytes !== undefined && at + RECORD_HEADER_BYTES <= bytes.length; ) {
    const size = peekRecord(bytes, at);
    if (size < 0) break;
    length = Math.max(length, bytes.readUInt32LE(at + ACKED_LENGTH_AT));
    at += recordSpan(size);
  }
  return length - SUPERBLOCK_BYTES;
}

/**
 * Damaged in what was being written, killed at once, and the first to be back: for a while all that is to be had of its
 * open blocks is what it can read of them.
 */
function damagedAndAlone(stage: Stage): ReturnType<Fault> {
  const server = theVictim(stage);
  const { cluster, random } = stage;
  const others = cluster.dataservers.filter(({ node }) => node !== server?.node);
  if (server?.live === undefined || others.length === 0) return undefined;
  const written = server.live.store.entries().filter(({ state }) => state === BlockState.OPEN);
  const paths = written.map(({ block }) => `blocks/${blockFileName(block, 0, 'blk')}`);
  // Nor could anybody tell that the last write is one that this disk has lost: a seal of what is here would be without it
  // (docs/durability.md, what can still lose a picture).
  if (paths.some((path) => server.medium.damaged.has(path))) return undefined;
  const open = paths.flatMap((path) => {
    const provenBytes = provenBytesOf(server.medium.durable(path));
    return provenBytes > 0 ? [{ path, provenBytes }] : [];
  });
  if (open.length === 0) return undefined;
  const { path, provenBytes } = random.pick(open);
  const where = { path, position: SUPERBLOCK_BYTES + random.below(provenBytes) };
  const struck = random.float() < 0.5 ? server.medium.flip(where) : server.medium.spoil(where);
  if (struck === undefined) return undefined;
  for (const { node } of others) {
    node.isHeld = true;
    node.kill();
  }
  server.node.kill(stage.between(50, 500));
  const mend = () => {
    for (const { node } of others) {
      node.isHeld = false;
      node.startIn(random.float() * 800);
    }
  };
  return { lastsMs: stage.between(1_000, 12_000), mend, what: `${server.node.name} ${struck.path}` };
}

/** What disks do. */
export const DISK_FAULTS = {
  'disk-full': (stage) =>
    trouble(
      stage,
      anyOne(stage),
      (medium) => {
        medium.capacityBytes = medium.fileSystem.usedBytes + stage.random.below(300_000);
      },
      (medium) => {
        medium.capacityBytes = 1 << 30;
      },
    ),
  'disk-hangs': (stage) =>
    trouble(
      stage,
      anyOne(stage),
      (medium) => medium.faults.hang(stage.random.pick([['sync'], ['read', 'write', 'sync', 'name']])),
      (medium) => medium.faults.release(),
    ),
  // It tries to read a sector again and again, and does all else meanwhile.
  'file-hangs': (stage) => {
    const server = anyOne(stage);
    const blocks = server.medium.durablePaths().filter((path) => BLOCK_FILE.test(path));
    if (blocks.length === 0) return undefined;
    const { random } = stage;
    // Of all files only now and then: what one request waits for others have changed before it is answered.
    const [path, share] =
      random.float() < 0.5 ? [random.pick(blocks), random.pick([0.1, 0.4, 1])] : [BLOCK_SUFFIX, 0.1];
    const begin = (medium: SimMedium) => medium.faults.hang(['read'], path, share);
    return trouble(stage, server, begin, (medium) => medium.faults.release());
  },
  'disk-slow': (stage) =>
    trouble(
      stage,
      anyOne(stage),
      (medium) => {
        medium.faults.slowness = stage.random.pick([5, 50, 400]);
      },
      (medium) => {
        medium.faults.slowness = 1;
      },
    ),
  'disk-read-only': (stage) =>
    trouble(
      stage,
      anyOne(stage),
      (medium) => {
        medium.faults.isReadOnly = true;
      },
      (medium) => {
        medium.faults.isReadOnly = false;
      },
    ),
  'disk-eio-read': (stage) => errors(stage, ['read']),
  'disk-eio-write': (stage) => errors(stage, ['write']),
  'disk-eio-sync': (stage) => errors(stage, ['sync']),
  'bit-rot': (stage) => strike(stage, (medium) => medium.flip({ path: BLOCK_FILES })),
  'unreadable-sectors': (stage) => strike(stage, (medium) => medium.spoil({ path: BLOCK_FILES })),
  'damaged-and-alone': damagedAndAlone,
  'misdirected-write': (stage) =>
    trouble(
      stage,
      theVictim(stage),
      (medium) => {
        medium.faults.misdirected = { share: 0.1, times: 1, path: BLOCK_FILES, onto: BLOCK_FILES };
      },
      (medium) => {
        medium.faults.misdirected = undefined;
      },
    ),
  'lost-write': (stage) =>
    trouble(
      stage,
      theVictim(stage),
      (medium) => {
        medium.faults.lostWrites = { share: 0.1, times: 1, path: BLOCK_FILES };
      },
      (medium) => {
        medium.faults.lostWrites = undefined;
      },
    ),
  'snapshot-restored': (stage) => {
    const server = theVictim(stage);
    if (server === undefined || !server.node.isRunning) return undefined;
    const { medium, kv, node } = server;
    const [files, index] = [medium.snapshot(), kv.snapshot()];
    const change = () => {
      node.kill(stage.between(50, 2_000));
      medium.restore(files);
      kv.restore(index);
    };
    const mend = () => stage.replaced(server.id, change);
    return { lastsMs: stage.between(50, 20_000), mend, what: node.name };
  },
  'disk-wiped': (stage) => {
    const server = theVictim(stage);
    if (server === undefined) return undefined;
    const { medium, kv, node } = server;
    stage.replaced(server.id, () => {
      // Under a process that runs, too: somebody unmounts it.
      if (stage.random.float() < 0.5) {
        node.kill(stage.between(50, 2_000));
        kv.wipe();
      }
      medium.wipe();
    });
    const mend = () => {
      node.kill();
      kv.wipe();
    };
    return { lastsMs: stage.between(1_000, 9_000), mend, what: node.name };
  },
  'disks-swapped': (stage) => {
    const one = anyOne(stage);
    const other = anyOne(stage);
    // Two exchanges at a time would have to be undone in the right order.
    if (one === other || stage.cluster.hasSwappedDisks) return undefined;
    // What is on a disk is still its own server's, wherever it is mounted: nothing of it may change while it is elsewhere.
    const swap = () => {
      for (const { node } of [one, other]) {
        node.isHeld = true;
        node.kill();
      }
      one.medium.swap(other.medium);
      one.kv.swap(other.kv);
      for (const { node } of [one, other]) {
        node.isHeld = false;
        node.refused = undefined;
        node.startIn(stage.between(50, 1_000));
      }
    };
    swap();
    stage.cluster.hasSwappedDisks = true;
    const mend = () => {
      swap();
      stage.cluster.hasSwappedDisks = false;
    };
    return { lastsMs: stage.between(500, 6_000), mend, what: `${one.node.name} ${other.node.name}` };
  },
} satisfies Partial<Record<FaultKind, Fault>>;
