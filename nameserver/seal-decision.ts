import type { Epoch, ServerId } from '../common/ids.ts';
import type { FenceReply } from '../common/wire/control.ts';

export interface Fenced {
  readonly server: ServerId;
  /** Undefined while the member has not answered. */
  readonly reply: FenceReply | undefined;
}

export type SealDecision =
  /** Not everyone has answered. */
  | { readonly kind: 'wait'; readonly missing: readonly ServerId[] }
  /** No member holds the block: it never came to be. */
  | { readonly kind: 'forget' }
  | {
      readonly kind: 'seal';
      readonly length: number;
      readonly slots: number;
      /** Undefined when the first member has to find it out. */
      readonly digest: string | undefined;
      readonly epoch: Epoch;
      /** Members that hold the block, the best copy first; each is a source for the others. */
      readonly holders: readonly ServerId[];
      /** Holders that have exactly this SEAL already. */
      readonly sealed: readonly ServerId[];
      /** Members that answered and do not hold it. */
      readonly absent: readonly ServerId[];
      /** What should never be: somebody has to look. */
      readonly alarms: readonly string[];
    };

/**
 * At which length a fenced block is sealed, from the answers of all its members.
 *
 * A SEAL that a member holds already was decided by an earlier leader and may be complete: the one of the newest epoch
 * is adopted. Otherwise the length is the maximum of the members' valid lengths. Each replica of one session is a
 * prefix of the longest (I4), and what was acknowledged is on every member, so the maximum covers it; a minimum would
 * not, where one copy is damaged at its end. A valid length counts what lies behind a damaged span too: a record that
 * is bad on one member is taken from another, and nothing below the length is ever cut.
 *
 * @param epoch of the leader that decides
 */
export function decideSeal(fenced: readonly Fenced[], epoch: Epoch): SealDecision {
  const missing = fenced.filter(({ reply }) => reply === undefined).map(({ server }) => server);
  if (missing.length > 0) return { kind: 'wait', missing };
  const known = fenced.flatMap(({ server, reply }) => (reply?.known ? [{ server, reply }] : []));
  if (known.length === 0) return { kind: 'forget' };

  const seals = known.flatMap(({ reply }) => (reply.seal ? [reply.seal] : []));
  const adopted = seals.reduce<(typeof seals)[number] | undefined>(
    (newest, seal) => (newest === undefined || seal.epoch > newest.epoch ? seal : newest),
    undefined,
  );
  const length = adopted?.length ?? Math.max(...known.map(({ reply }) => reply.validLength));
  const holders = [...known].sort((a, b) => quality(b.reply, length) - quality(a.reply, length));
  const best = holders[0]!.reply;
  return {
    kind: 'seal',
    length,
    slots: adopted?.slots ?? best.slots,
    digest: adopted?.digest ?? (best.validLength === length ? best.digest : undefined),
    epoch: adopted?.epoch ?? epoch,
    holders: holders.map(({ server }) => server),
    sealed: known
      .filter(({ reply }) => adopted !== undefined && isSame(reply.seal, adopted))
      .map(({ server }) => server),
    absent: fenced.filter(({ reply }) => !reply!.known).map(({ server }) => server),
    alarms: alarmsOf(known, length, adopted !== undefined),
  };
}

type Known = { readonly server: ServerId; readonly reply: FenceReply };

/** Long enough before whole before clean. */
function quality(reply: FenceReply, length: number): number {
  return (
    (reply.validLength >= length ? 8 : 0) +
    (reply.holes.length === 0 ? 4 : 0) +
    (reply.digest !== undefined ? 2 : 0) +
    (reply.clean ? 1 : 0)
  );
}

const isSame = (a: FenceReply['seal'], b: NonNullable<FenceReply['seal']>): boolean =>
  a !== undefined && a.length === b.length && a.digest === b.digest && a.epoch === b.epoch;

function alarmsOf(known: readonly Known[], length: number, isAdopted: boolean): string[] {
  const alarms: string[] = [];
  for (const { server, reply } of known) {
    // A hole is only known as one because something behind it says that it was acknowledged.
    const acknowledgedBeyond = reply.holes.some((hole) => hole.end > length);
    if (isAdopted && acknowledgedBeyond)
      alarms.push(`server ${server} has acknowledged bytes above the sealed length ${length}`);
  }
  const wholeDigests = known
    .filter(({ reply }) => reply.digest !== undefined && reply.validLength === length)
    .map(({ reply }) => reply.digest);
  if (new Set(wholeDigests).size > 1) alarms.push(`replicas of ${length} bytes have different digests`);
  return alarms;
}
