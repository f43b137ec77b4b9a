import { isTfsError, TfsError } from '../../common/errors.ts';
import { blockFileName, parseBlockFileName } from '../../common/format/file-names.ts';
import {
  emptyOpsState,
  encodeOpBody,
  encodeOpsFileHeader,
  foldOp,
  frameOp,
  type GenerationFacts,
  NO_OP_ID,
  OPS_HEADER_BYTES,
  type Op,
  type OpPlace,
  type OpsState,
  OpType,
  opsSeed,
} from '../../common/format/ops.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import { type BlockId, compareVersions, type ServerId } from '../../common/ids.ts';
import { type ReceiveOrder, type SealInfo, STORE_DIRECTORIES } from './api.ts';
import { inBlocks, type StoreContext } from './context.ts';
import type { DonorOps, Donors } from './donor.ts';
import type { OpsLogOptions } from './open.ts';
import { OpsLog } from './ops-log.ts';
import type { Trash } from './trash.ts';

/** All sequenced operations of a block, as a member of its newest configuration has them, and their sum. */
export interface ReceivedOps {
  readonly ops: readonly Op[];
  readonly state: OpsState;
}

/**
 * The log of another replica, for one that is to have it as its own.
 *
 * Whatever was acknowledged is in the log of every member of the newest configuration, so any one of them will do. Only
 * the sequencer itself, which writes its own log first, has to have everything that any member holds: it would give the
 * same place to two operations otherwise. For the same reason nobody has more than its own log had: where that still tells
 * its newest place, whoever has come so far under the same version has it all, and the others, who may be gone for good,
 * need not be asked. A member that an unfinished configuration never came to has no place of it; and where no record was
 * sealed there is nothing that an operation could be about, and members that never had the block, or let go of it
 * already, have no log to give. A replica that was left out of the configuration gets what there is now; it
 * stays stale, whatever comes after, until a new configuration takes it in.
 *
 * @param server this one
 * @param newest the place of the last operation that its own log had, where that is known
 * @throws TfsError UNAVAILABLE when nobody who answers holds it; CONFLICT when this server is no member, is not to become
 *   one, and has nothing of the block
 */
export async function receiveOps(
  context: StoreContext,
  {
    server,
    isHeld,
    newest,
  }: { readonly server: ServerId; readonly isHeld: boolean; readonly newest: OpPlace | undefined },
  { block, version, joins, seal, generation }: ReceiveOrder,
  donors: Donors,
): Promise<ReceivedOps> {
  const answers = await donors.all((donor) => donor.ops());
  const heard = answers
    .map(({ server: from, answer }) => ({ from, answer, state: folded(answer) }))
    .filter(({ answer, state }) => isOfVersion(answer, state));
  const logs = heard
    .filter(({ answer }) => compareVersions(answer.version, version) >= 0)
    .filter(({ from, state }) => state.cfg?.members.includes(from))
    .sort((a, b) => compareVersions(b.answer.version, a.answer.version) || b.state.seq - a.state.seq);
  const [best] = logs;
  if (best === undefined)
    throw donors.missing(`no member of the newest configuration gives the operations of block ${block}`);
  const { members, opsPrimary } = best.state.cfg!;
  if (!members.includes(server) && !isHeld && joins !== true)
    throw new TfsError(
      'CONFLICT',
      `block ${block} is not for server ${server}: its members are ${members.join(', ')}`,
    );
  const others = members.filter((member) => member !== server);
  const isEmpty = generation === 0 && seal.slots === 0;
  const isKnown = (member: ServerId) =>
    logs.some(({ from }) => from === member) ||
    heard.some(
      ({ from, answer }) => from === member && compareVersions(answer.version, best.answer.version) < 0,
    );
  const hasAll =
    newest !== undefined &&
    compareVersions(newest.version, best.state.version) === 0 &&
    newest.seq <= best.state.seq;
  if (opsPrimary === server && !isEmpty && !hasAll && !others.every(isKnown))
    throw donors.missing(`the sequencer of block ${block} needs the operations of every member`);
  context.log.info(
    { block, from: best.from, seq: best.state.seq },
    'operations were taken from another replica',
  );
  return { ops: best.answer.ops, state: best.state };
}

/**
 * Writes them as this replica's log, with the SEAL or GEN_COMMIT, under the next number: the newest one counts, so that a crash leaves
 * the old log or the new one.
 */
export async function installOps(
  context: StoreContext,
  superblock: Superblock,
  order: ReceiveOrder,
  { ops, state }: ReceivedOps,
  { options, trash }: { readonly options: OpsLogOptions; readonly trash: Trash },
): Promise<OpsLog> {
  const { clusterUuid, block, salt } = superblock;
  const old = await opsLogsOf(context, block);
  const n = old.length === 0 ? 0 : Math.max(...old) + 1;
  const header = { clusterUuid, block, n, salt };
  const seed = opsSeed(header);
  const content = [encodeOpsFileHeader(header)];
  let length = OPS_HEADER_BYTES;
  const seal = factOp(context, order, state);
  foldOp(state, seal);
  for (const op of [...ops, seal]) {
    const frame = frameOp(encodeOpBody(op), seed, length);
    content.push(frame);
    length += frame.length;
  }
  const name = blockFileName(block, n, 'ops');
  let isNamed = false;
  try {
    await context.writeTemporary(`${name}.tmp`, content);
    await context.disk.rename(inBlocks(`${name}.tmp`), inBlocks(name));
    isNamed = true;
    await context.syncBlocks();
  } catch (error) {
    await context.discard(inBlocks(`${name}.tmp`));
    // Of a block that is not here there would be a log without a block; beside another log, either is as good.
    if (isNamed && old.length === 0) await context.discard(inBlocks(name));
    throw context.failed(error, `ops log of block ${block}`);
  }
  for (const number of old) {
    const path = blockFileName(block, number, 'ops');
    await keepIn(trash, context, path);
    await context.discard(inBlocks(path));
  }
  context.ops(block, ops, state, 'found');
  const place = { block, n, salt, goodLength: length, torn: false, inherited: false };
  return new OpsLog(context, place, state, options);
}

/** A file that cannot be kept is no reason to go on without a good one. */
export async function keepIn(trash: Trash, context: StoreContext, name: string): Promise<boolean> {
  try {
    await trash.keep(name);
    return true;
  } catch (error) {
    if (!isTfsError(error, 'NOT_FOUND'))
      context.log.warn({ err: error, name }, 'a damaged file cannot be kept');
    return false;
  }
}

/** Numbers of the block's ops logs that are on the disk. */
export async function opsLogsOf(context: StoreContext, block: BlockId): Promise<number[]> {
  const names = await context.disk.list(STORE_DIRECTORIES.blocks);
  return names.flatMap((name) => {
    const file = parseBlockFileName(name);
    return file?.block === block && file.kind === 'ops' ? [file.number] : [];
  });
}

function folded({ ops }: DonorOps): OpsState {
  const state = emptyOpsState();
  for (const op of ops) foldOp(state, op);
  return state;
}

/** A log that is what its server says of it. */
const isOfVersion = ({ version }: DonorOps, state: OpsState): boolean =>
  state.cfg !== undefined && compareVersions(state.version, version) === 0;

/** What the records are that come with the log. */
function factOp(context: StoreContext, { seal, generation }: ReceiveOrder, { version, seq }: OpsState): Op {
  const base = { version, seq, atMs: context.clock.now(), opId: NO_OP_ID };
  return generation > 0
    ? { ...base, type: OpType.GEN_COMMIT, ...generationOf(seal, generation) }
    : { ...base, type: OpType.SEAL, ...seal };
}

export const generationOf = (
  { length, slots, digest, epoch }: SealInfo,
  generation: number,
): GenerationFacts => ({ generation, length, slots, digest, epoch });
