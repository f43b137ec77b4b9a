import { compareSeals } from '../common/format/seal-rank.ts';
import type { Epoch, ServerId } from '../common/ids.ts';
import { DEAD_MS, SEAL_PATIENCE_MS } from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import type { FenceReply, SealFact } from '../common/wire/control.ts';
import { type NameServerFaults, NO_FAULTS } from './faults.ts';

/** One server that may hold the block, and what it said when it was fenced. */
export type Asked =
  | { readonly server: ServerId; readonly reply: FenceReply }
  | {
      readonly server: ServerId;
      readonly reply?: undefined;
      /** Since when it has left this question unanswered; Infinity for one that was taken out of the cluster. */
      readonly silentForMs: number;
      /** It is there, and its disk fails to read what it holds. */
      readonly unread?: boolean;
    };

export interface SealTimes {
  /** How long members without an answer are waited for, where a clean or sealed copy has answered. */
  readonly patienceMs: number;
  /** How long, where none has. */
  readonly deadMs: number;
}

export const SEAL_TIMES: SealTimes = { patienceMs: SEAL_PATIENCE_MS, deadMs: DEAD_MS };

export interface SealQuestion {
  readonly asked: readonly Asked[];
  /** Since this seal was first tried. */
  readonly waitedMs: number;
  /** Of the leader that decides. */
  readonly epoch: Epoch;
  readonly times?: SealTimes;
  readonly faults?: NameServerFaults;
}

export interface SealOrder {
  readonly kind: 'seal';
  readonly length: number;
  readonly slots: number;
  /** Undefined when the first holder has to find it out. */
  readonly digest: string | undefined;
  readonly epoch: Epoch;
  /** An adopted SEAL that a replica knows to be complete. */
  readonly complete: boolean;
  /** Of an adopted SEAL: records that are lost. */
  readonly lost: number;
  /** What verifies on no holder may be sealed as lost. */
  readonly mayLose: boolean;
  /** So may what is there, and its disk fails to read: that has been tried for so long that it will not come back. */
  readonly mayLoseUnread: boolean;
  /** Members that hold the block and can be sealed, the best copy first; each is a source for the others. */
  readonly holders: readonly ServerId[];
  /** Holders that have exactly this SEAL already. */
  readonly sealed: readonly ServerId[];
  /** Servers that answered and do not hold it. */
  readonly absent: readonly ServerId[];
  /** Servers that did not answer. */
  readonly missing: readonly ServerId[];
  /** Members that hold what an adopted SEAL denies: they are left as they are. */
  readonly contradicting: readonly ServerId[];
  /** What should never be: somebody has to look. */
  readonly alarms: readonly string[];
}

export type SealDecision =
  /** Not enough is known; in `forMs` it may be, if nobody answers until then. */
  | { readonly kind: 'wait'; readonly missing: readonly ServerId[]; readonly forMs: number }
  /** No member holds the block: it never came to be. */
  | { readonly kind: 'forget' }
  | SealOrder;

interface Known {
  readonly server: ServerId;
  readonly reply: FenceReply;
}

/**
 * At which length a fenced block is sealed, from the answers of its members.
 *
 * What was acknowledged is on every member, and no member takes an append after its answer. So a single answer would
 * do, if disks never lied: a copy is *clean* when its process has written all of it and has just read its end. The
 * others are waited for all the same, for a while, so that all replicas come out alike at once; and where no copy is
 * clean, until they have been silent for so long that they will not come back.
 *
 * A SEAL that a member holds already was decided by an earlier leader: the highest of them is adopted. Otherwise the
 * length is the maximum of what the members hold. Each replica of one session is a prefix of the longest (I4), so the
 * maximum covers what was acknowledged; a minimum would not, where one copy is damaged at its end. A valid length
 * counts what lies behind a damaged span too: a record that is bad on one member is taken from another, and nothing
 * below the length is ever cut.
 */
export function decideSeal(question: SealQuestion): SealDecision {
  const { asked, epoch, faults = NO_FAULTS } = question;
  const known = asked.flatMap(({ server, reply }) => (reply?.known ? [{ server, reply }] : []));
  const usable = known.filter(({ reply }) => reply.unreadable !== true);
  const missing = asked.filter(({ reply }) => reply === undefined).map(({ server }) => server);
  const forMs = timeLeft(question, usable);
  if (forMs > 0) return { kind: 'wait', missing, forMs };
  if (known.length === 0 && isDenied(question)) return { kind: 'forget' };
  if (usable.length === 0) return { kind: 'wait', missing, forMs: Number.POSITIVE_INFINITY };

  const adopted = adoptedOf(usable);
  const heals = adopted !== undefined && hasLost(adopted, usable);
  const lengths = usable.map(({ reply }) => Math.max(reply.validLength, reply.provenLength));
  const length =
    adopted?.length ?? (faults.has('seal-at-minimum') ? Math.min(...lengths) : Math.max(...lengths));
  markDecision({ question, usable, missing, adopted, heals, length });
  const contradicting = heals ? [] : usable.filter(({ reply }) => contradicts(reply, adopted));
  const holders = usable
    .filter((each) => !contradicting.includes(each))
    .sort((a, b) => quality(b.reply, length) - quality(a.reply, length));
  const best = holders[0]?.reply;
  const isDigestKnown = best?.validLength === length && best.digest !== undefined && best.holes.length === 0;
  return {
    kind: 'seal',
    length,
    slots: adopted?.slots ?? slotsOf(holders, length),
    digest: adopted !== undefined && !heals ? adopted.digest : isDigestKnown ? best.digest : undefined,
    epoch: adopted !== undefined && !heals ? adopted.epoch : epoch,
    complete: adopted?.complete ?? false,
    lost: heals ? 0 : (adopted?.lost ?? 0),
    mayLose: allGivenUp(question),
    mayLoseUnread: allGivenUp(question) && question.waitedMs >= (question.times ?? SEAL_TIMES).deadMs,
    holders: holders.map(({ server }) => server),
    sealed: heals
      ? []
      : holders.filter(({ reply }) => reply.clean && isSame(reply.seal, adopted)).map(({ server }) => server),
    absent: asked.filter(({ reply }) => reply?.known === false).map(({ server }) => server),
    missing,
    contradicting: contradicting.map(({ server }) => server),
    alarms: alarmsOf({ usable, contradicting, missing, length, adopted }),
  };
}

/**
 * A SEAL that is complete nobody can have sealed otherwise, or not with as good a right.
 *
 * @returns how much longer to wait for those without an answer, if they stay without; 0 when it can be decided
 */
function timeLeft({ asked, waitedMs, times = SEAL_TIMES }: SealQuestion, usable: readonly Known[]): number {
  const silences = asked.flatMap((each) => (each.reply === undefined ? [each.silentForMs] : []));
  if (silences.length === 0 || usable.some(({ reply }) => reply.seal?.complete)) return 0;
  const untilDeadMs = times.deadMs - Math.min(...silences);
  const isSure = usable.some(({ reply }) => reply.clean || reply.seal !== undefined);
  return Math.max(0, isSure ? Math.min(untilDeadMs, times.patienceMs - waitedMs) : untilDeadMs);
}

/**
 * Whether everyone who will ever answer has said that the block is not there: what was acknowledged in it would be on any
 * one of them. A server that was taken out of the cluster is not let in again, whatever it holds.
 */
const isDenied = ({ asked }: SealQuestion): boolean =>
  asked.every((each) => each.reply !== undefined || each.silentForMs === Number.POSITIVE_INFINITY) &&
  (asked.length === 0 || asked.some(({ reply }) => reply !== undefined));

/** Nobody who has not answered is expected to come back with what the others lack. */
const allGivenUp = ({ asked, times = SEAL_TIMES }: SealQuestion): boolean =>
  asked.every((each) => each.reply !== undefined || each.silentForMs >= times.deadMs);

function adoptedOf(usable: readonly Known[]): SealFact | undefined {
  const seals = usable.flatMap(({ reply }) => (reply.seal ? [reply.seal] : []));
  return seals.reduce<SealFact | undefined>(
    (highest, seal) => (highest === undefined || compareSeals(seal, highest) > 0 ? seal : highest),
    undefined,
  );
}

/** Whether someone holds a record that the SEAL has as lost: then it is sealed once more, with it. */
function hasLost(adopted: SealFact, usable: readonly Known[]): boolean {
  if ((adopted.lost ?? 0) === 0) return false;
  // Also one that was sealed so, because its disk failed to read then.
  if (
    usable.some(({ reply }) => reply.clean && isSame(reply.seal, adopted) && reply.digest !== adopted.digest)
  )
    return true;
  const lost = usable.find(({ reply }) => isSame(reply.seal, adopted))?.reply.holes ?? [];
  return usable.some(
    ({ reply }) =>
      !isSame(reply.seal, adopted) &&
      lost.some(
        ({ start, end }) =>
          end <= reply.validLength && !reply.holes.some((hole) => hole.start <= start && hole.end >= end),
      ),
  );
}

/** Which of the rare cases this is. */
function markDecision(facts: {
  readonly question: SealQuestion;
  readonly usable: readonly Known[];
  readonly missing: readonly ServerId[];
  readonly adopted: SealFact | undefined;
  readonly heals: boolean;
  readonly length: number;
}): void {
  const { question, usable, missing, adopted, heals, length } = facts;
  if (adopted !== undefined && adopted.epoch !== question.epoch) mark('seal-adopted');
  if (adopted?.complete && missing.length > 0) mark('seal-adopted-complete');
  if (heals) mark('seal-heals-lost');
  if (missing.length > 0) mark('seal-without-missing');
  if (usable.every(({ reply }) => !reply.clean && reply.seal === undefined)) mark('seal-none-clean');
  if (adopted === undefined && usable.every(({ reply }) => reply.validLength < length))
    mark('seal-by-watermark');
}

function contradicts(reply: FenceReply, adopted: SealFact | undefined): boolean {
  if (adopted === undefined) return false;
  // One that was sealed with records lost, before somebody turned up who was sealed with all of them, lacks some and denies none.
  const isWhole =
    reply.digest !== undefined && reply.validLength === adopted.length && reply.holes.length === 0;
  return reply.provenLength > adopted.length || (isWhole && reply.digest !== adopted.digest);
}

function slotsOf(holders: readonly Known[], length: number): number {
  const whole = holders.find(({ reply }) => reply.validLength === length);
  return whole?.reply.slots ?? Math.max(0, ...holders.map(({ reply }) => reply.slots));
}

/** Long enough before whole before clean; of damaged ones the least damaged. */
function quality(reply: FenceReply, length: number): number {
  const damagedBytes = reply.holes.reduce((sum, { start, end }) => sum + end - start, 0);
  return (
    (reply.validLength >= length ? 8 : 0) +
    (reply.holes.length === 0 ? 4 : -damagedBytes / 2 ** 32) +
    (reply.digest !== undefined && reply.holes.length === 0 ? 2 : 0) +
    (reply.clean ? 1 : 0)
  );
}

const isSame = (a: FenceReply['seal'], b: FenceReply['seal']): boolean =>
  a !== undefined && b !== undefined && a.length === b.length && a.slots === b.slots && a.digest === b.digest;

function alarmsOf(facts: {
  readonly usable: readonly Known[];
  readonly contradicting: readonly Known[];
  readonly missing: readonly ServerId[];
  readonly length: number;
  readonly adopted: SealFact | undefined;
}): string[] {
  const { usable, contradicting, missing, length, adopted } = facts;
  const alarms = contradicting.map(({ server, reply }) =>
    reply.provenLength > length
      ? `server ${server} has acknowledged bytes up to ${reply.provenLength}, above the sealed length ${length}: ` +
        'nothing of it was cut'
      : `server ${server} has other records than were sealed: nothing of it was changed`,
  );
  const isSure = usable.some(({ reply }) => reply.clean || reply.seal !== undefined);
  if (missing.length > 0 && !isSure)
    alarms.push(
      `sealed from copies of which none is known to be whole; server ${missing.join(', ')} did not come back`,
    );
  const wholeDigests = usable
    .filter(({ reply }) => reply.digest !== undefined && reply.validLength === length)
    .map(({ reply }) => reply.digest);
  if (adopted === undefined && new Set(wholeDigests).size > 1)
    alarms.push(`replicas of ${length} bytes have different digests`);
  return alarms;
}
