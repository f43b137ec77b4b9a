import { z } from 'zod';
import { isTfsError, toTfsError } from '../../common/errors.ts';
import type { BlockId } from '../../common/ids.ts';
import type { Log } from '../../common/log.ts';
import type { Kv, KvOperation } from '../../common/seams/kv.ts';
import type { Pass } from './pass.ts';

/** Apart from those of the SHA-1 index, which is in the same Kv. */
const PREFIX = 0x72; // r
const READ_KEY_BYTES = 5;
const DAMAGED_KEY_BYTES = 6;
const DAMAGED = 0x64; // d
const PASS_KEY = Buffer.from('rp');
const LAST_KEY = Buffer.from('rl');

/** For those who check the other entries of the Kv. */
export const isLedgerKey = (key: Buffer): boolean => key[0] === PREFIX;

const zPass = z.object({
  startedAtMs: z.number(),
  endedAtMs: z.number().optional(),
  fullSpeed: z.boolean(),
  replicas: z.number(),
  bytes: z.number(),
  damaged: z.number(),
  problems: z.number(),
}) as z.ZodType<Pass>;

/**
 * Which replica was read through when, which was found damaged and is not whole again, and how the pass stands: in the Kv,
 * so that a restart goes on where it was. Nothing hangs on it: what is not there any more is read once more.
 */
export class ScrubLedger {
  readonly #kv: Kv;
  readonly #log: Log;
  readonly #readAtMs = new Map<BlockId, number>();
  readonly #damaged = new Set<BlockId>();
  #pass: Pass | undefined;
  #last: Pass | undefined;
  #isFailing = false;

  private constructor(kv: Kv, log: Log) {
    this.#kv = kv;
    this.#log = log;
  }

  /** @param holds whether the replica is still here: of others nothing is remembered */
  static async open(kv: Kv, log: Log, holds: (block: BlockId) => boolean): Promise<ScrubLedger> {
    const ledger = new ScrubLedger(kv, log);
    await ledger.#load(holds).catch((error: unknown) => {
      log.warn({ reason: toTfsError(error).message }, 'what was scrubbed is not known: it is read again');
    });
    return ledger;
  }

  /** The one under way, or the last. */
  get pass(): Pass | undefined {
    return this.#pass;
  }

  /** The last one that has come to its end. */
  get last(): Pass | undefined {
    return this.#last;
  }

  /** Wall clock: when the replica was begun to be read through for the last time. */
  readAtMs(block: BlockId): number | undefined {
    return this.#readAtMs.get(block);
  }

  /** Replicas that were found damaged, by this process or one before, and have not been whole since. */
  get damaged(): ReadonlySet<BlockId> {
    return this.#damaged;
  }

  /** The replica does not verify; or it does again, or is gone. */
  async noteDamage(block: BlockId, isDamaged: boolean): Promise<void> {
    if (this.#damaged.has(block) === isDamaged) return;
    const key = damagedKey(block);
    if (isDamaged) this.#damaged.add(block);
    else this.#damaged.delete(block);
    await this.#write([isDamaged ? { type: 'put', key, value: Buffer.alloc(0) } : { type: 'del', key }]);
  }

  async begin(pass: Pass): Promise<void> {
    this.#pass = pass;
    await this.#write([put(PASS_KEY, pass)]);
  }

  /** @param pass as it stands with this replica; absent where it was read in none */
  async read(block: BlockId, atMs: number, pass?: Pass): Promise<void> {
    this.#readAtMs.set(block, atMs);
    this.#pass = pass ?? this.#pass;
    const value = Buffer.alloc(8);
    value.writeDoubleLE(atMs);
    const note: KvOperation = { type: 'put', key: readKey(block), value };
    await this.#write(pass === undefined ? [note] : [note, put(PASS_KEY, pass)]);
  }

  async end(pass: Pass): Promise<void> {
    this.#pass = pass;
    this.#last = pass;
    await this.#write([put(PASS_KEY, pass), put(LAST_KEY, pass)]);
  }

  async #load(holds: (block: BlockId) => boolean): Promise<void> {
    const gone: KvOperation[] = [];
    const range = { gte: Buffer.from([PREFIX]), lt: Buffer.from([PREFIX + 1]) };
    for await (const [key, value] of this.#kv.entries(range)) {
      const isDamage = key.length === DAMAGED_KEY_BYTES && key[1] === DAMAGED;
      if (key.length !== READ_KEY_BYTES && !isDamage) continue;
      const block = key.readUInt32BE(key.length - 4) as BlockId;
      if (holds(block) && isDamage) this.#damaged.add(block);
      else if (holds(block)) this.#readAtMs.set(block, value.readDoubleLE());
      else gone.push({ type: 'del', key: Buffer.from(key) });
    }
    const [pass, last] = await this.#kv.getMany([PASS_KEY, LAST_KEY]);
    this.#pass = parse(pass);
    this.#last = parse(last);
    if (gone.length > 0) await this.#write(gone);
  }

  async #write(operations: readonly KvOperation[]): Promise<void> {
    try {
      await this.#kv.batch(operations);
      this.#isFailing = false;
    } catch (error) {
      if (isTfsError(error, 'CLOSED') || this.#isFailing) return;
      this.#isFailing = true;
      this.#log.warn({ reason: toTfsError(error).message }, 'a restart will not know what was scrubbed');
    }
  }
}

const parse = (value: Buffer | undefined): Pass | undefined =>
  value === undefined ? undefined : zPass.parse(JSON.parse(value.toString('utf8')));

const put = (key: Buffer, pass: Pass): KvOperation => ({
  type: 'put',
  key,
  value: Buffer.from(JSON.stringify(pass), 'utf8'),
});

function readKey(block: BlockId): Buffer {
  const key = Buffer.alloc(READ_KEY_BYTES);
  key[0] = PREFIX;
  key.writeUInt32BE(block, 1);
  return key;
}

function damagedKey(block: BlockId): Buffer {
  const key = Buffer.alloc(DAMAGED_KEY_BYTES);
  key[0] = PREFIX;
  key[1] = DAMAGED;
  key.writeUInt32BE(block, 2);
  return key;
}
