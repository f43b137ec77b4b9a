import { within } from '../common/deadline.ts';
import { isTfsError, TfsError } from '../common/errors.ts';
import { OpType } from '../common/format/ops.ts';
import { compareVersions } from '../common/ids.ts';
import { OPS_OWN_DISK_MS_MAX } from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import {
  decodeMutate,
  encodeCheckReply,
  type MutateRequest,
  Mutation,
  NameFlag,
} from '../common/wire/messages.ts';
import type { RpcRequest, RpcResult } from '../common/wire/rpc-server.ts';
import type { BlockStore } from './block/store.ts';
import type { OpsSequencer } from './ops-sequencer.ts';
import type { Reader } from './reader.ts';
import type { Takeover } from './takeover.ts';

const OP_OF = {
  [Mutation.DELETE]: OpType.DELETE,
  [Mutation.UNDELETE]: OpType.UNDELETE,
  [Mutation.HIDE]: OpType.HIDE,
  [Mutation.REVEAL]: OpType.REVEAL,
} as const;

/** The flag a mutation leads to, and whether it is set then. */
const GOAL = {
  [Mutation.DELETE]: { flag: NameFlag.DELETED, set: true },
  [Mutation.UNDELETE]: { flag: NameFlag.DELETED, set: false },
  [Mutation.HIDE]: { flag: NameFlag.HIDDEN, set: true },
  [Mutation.REVEAL]: { flag: NameFlag.HIDDEN, set: false },
} as const;

/** Looks at a name that seems to be as it is wanted already, each after a change of the configuration. */
const LOOKS_MAX = 4;

export interface MutateDeps {
  readonly store: BlockStore;
  readonly ops: OpsSequencer;
  readonly reader: Reader;
  readonly takeover: Takeover;
  readonly clock: Clock;
}

/** MUTATE: delete, undelete, hide, reveal. Acknowledged when durable on every member of the block's configuration. */
export async function mutate(deps: MutateDeps, request: RpcRequest): Promise<RpcResult> {
  const { store, ops } = deps;
  const message = decodeMutate(request.header);
  const { block, fileId, kind, opId } = message;
  await deps.takeover.ensure(block);
  for (let left = LOOKS_MAX; left > 0; left--) {
    const version = store.info(block)?.version;
    const flags = await readable(deps, message);
    const { flag, set } = GOAL[kind];
    const isSo = ((flags & flag) !== 0) === set || (flags & NameFlag.PURGED) !== 0;
    // Nothing to change, but the op that did it may have reached this log alone: it is confirmed before the answer, and
    // where another configuration has begun meanwhile it need not be part of that, so it is looked for again.
    if (!isSo) await ops.mutate(block, OP_OF[kind], fileId, opId);
    else if (version === undefined || compareVersions(version, await ops.confirm(block)) !== 0) {
      mark('mutate-looked-again');
      continue;
    }
    const nameFlags = await store.check(block, fileId);
    // A purge was ordered before it.
    if (kind === Mutation.UNDELETE && (nameFlags & NameFlag.PURGED) !== 0) {
      mark('undelete-behind-purge');
      throw gone();
    }
    return { header: encodeCheckReply({ nameFlags, provisional: false }) };
  }
  throw new TfsError('UNAVAILABLE', `block ${block} is getting one configuration after the other`, {
    retryAfterMs: 250,
  });
}

/**
 * As {@link known}; where the disk does not read the name, or does not answer, another member takes this one's place.
 */
async function readable(deps: MutateDeps, message: MutateRequest): Promise<number> {
  const { block } = message;
  try {
    return await within(deps.clock, OPS_OWN_DISK_MS_MAX, `block ${block} is read`, known(deps, message));
  } catch (error) {
    const isOfDisk = isTfsError(error, 'CORRUPT') || isTfsError(error, 'IO') || isTfsError(error, 'DEADLINE');
    if (!isOfDisk) throw error;
    return deps.takeover.giveUp(block, error);
  }
}

/** @returns the flags of a name that exists and whose cookie the caller knows */
async function known(
  { store, reader }: MutateDeps,
  { block, fileId, cookie, kind }: MutateRequest,
): Promise<number> {
  const knew = reader.knows(block);
  try {
    const flags = await store.check(block, fileId);
    // A purged record has no header left to compare the cookie with.
    if ((flags & NameFlag.PURGED) === 0) {
      await store.read(block, fileId, cookie, { offset: 0, length: 0 }, true);
    } else if (kind === Mutation.UNDELETE) {
      throw gone();
    } else if (kind !== Mutation.DELETE) {
      throw new TfsError('NOT_FOUND', 'no such picture');
    }
    return flags;
  } catch (error) {
    throw reader.honest(error, block, knew);
  }
}

const gone = (): TfsError => new TfsError('GONE', 'the picture was deleted and its bytes are gone for good');
