import * as assert from 'uvu/assert';
import {
  decodeOpsFileHeader,
  encodeOpBody,
  frameOp,
  NO_OP_ID,
  type Op,
  OpType,
  opsSeed,
  type SealFacts,
} from '../../common/format/ops.ts';
import type { Epoch, FileId } from '../../common/ids.ts';
import { writeDurable } from '../../dataserver/durable-file.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { BLOCK, BLOCK_PATH, OPS_PATH } from '../kit/replica-world.ts';
import { type InvariantName, Violation } from './observed.ts';
import type { ObservedWorld } from './observed-world.ts';

export const SIZES = [100, 8, 900, 70_001, 33];
export const BIG = { blockBytes: 1 << 20 };

/** What is found to be broken. */
async function brokenBy(work: () => unknown): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return error.message;
  }
}

/** That kind of invariant is found to be broken, with such words. */
export async function breaks(kind: InvariantName, about: RegExp, work: () => unknown): Promise<void> {
  const message = await brokenBy(work);
  assert.ok(message?.startsWith(`${kind}: `), `${kind} is broken: ${message}`);
  assert.match(message!, about);
}

/** An operation on all replicas, or on these. */
export async function give(observed: ObservedWorld, op: Op, replicas = [0, 1, 2]): Promise<void> {
  for (const i of replicas) await observed.world.replicas[i]!.store.appendOps(BLOCK, [op]);
  await observed.look();
}

/** The block goes on with these; its operation is the n-th of the log. */
export const configuration = (n: number, members: readonly number[]): Op => ({
  type: OpType.CFG,
  version: { epoch: 1 as Epoch, n },
  seq: n,
  atMs: 0,
  opId: NO_OP_ID,
  members: members as never,
  opsPrimary: members[0] as never,
});

/** Another byte in the first record's payload. */
export const flip = (bytes: Buffer): void => {
  bytes[4096 + 90]! ^= 1;
};

/** A fault changes a byte of the block's file, as its server reads it too. */
export async function damage(observed: ObservedWorld, server: number, position: number): Promise<void> {
  observed.servers[server - 1]!.medium.damaged.add(BLOCK_PATH);
  const file = await observed.world.replicas[server - 1]!.disk.open(BLOCK_PATH, 'write');
  const byte = Buffer.alloc(1);
  await file.read(byte, position);
  await file.writeDurable([Buffer.from([byte[0]! ^ 1])], position);
  await file.close();
}

/** A SEAL becomes durable in the log of a server, whoever may have written it. */
export function sealTo(observed: ObservedWorld, server: number, seal: Omit<SealFacts, 'epoch'>): void {
  observed.servers[server - 1]!.medium.change(OPS_PATH, (bytes) => {
    const header = decodeOpsFileHeader(bytes);
    if (!header.ok) throw new Error(header.why);
    const place = { version: { epoch: 1 as Epoch, n: 1 }, seq: 1, atMs: 0, opId: NO_OP_ID };
    const body = encodeOpBody({ type: OpType.SEAL, ...place, epoch: 1 as Epoch, ...seal });
    return Buffer.concat([bytes, frameOp(body, opsSeed(header.value), bytes.length)]);
  });
  observed.observer.step();
}

export const key = (fileId: number) => ({ block: BLOCK, fileId: fileId as FileId, cookie: 0 as never });

/** A file of a mount as its server writes it. */
export const promise = async (path: string, value: object): Promise<Buffer> => {
  const disk = new RecordingDisk();
  await writeDurable(disk, path, value);
  return disk.readFile(path);
};

export const reign = (epoch: number) =>
  promise('promise.tfs', { reign: { epoch, nameserver: 0 }, members: [], removed: [] });
