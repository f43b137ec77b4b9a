import {
  CUT_OFF_MS_MAX,
  DRAW_AGAIN_MS,
  LOCK_TTL_MS,
  SELF_PROMOTE_MS,
  START_WAIT_MS,
  TELL_PEER_MS,
  UNABLE_MS_MAX,
} from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import { tunable } from '../common/tunables.ts';

/**
 * Who tries to lead: a pure machine, an event in, the next state and what to do out. It decides nothing about safety:
 * whoever leads, DataServers obey the highest reign only. What it is for is that somebody leads soon after the last
 * leader is gone, and that nobody disturbs one that does its work.
 *
 * - A standby asks for the lock again and again. When it gets it, it asks the other NameServer, because a lock store
 *   forgets: if that one leads and is able to, the lock goes back.
 * - A leader renews the lock, and leads on whatever becomes of it. Only a higher reign, or its own stop, ends it; or that
 *   it is cut off from the DataServers, and the other one is not, or cannot be asked.
 * - When the store does not answer and no leader is in sight for long enough, a standby leads without the lock.
 */
export interface Election {
  /**
   * `standby`: follows. `asking`: has asked the other one. `drawing`: is storing a new reign. `leading`. `stopped`:
   * never again.
   */
  readonly role: 'standby' | 'asking' | 'drawing' | 'leading' | 'stopped';
  /** Whether there is no other NameServer: then no lock is needed and there is nobody to wait for. */
  readonly isAlone: boolean;
  /** The last answer granted the lock. */
  readonly hasLock: boolean;
  readonly isLockAsked: boolean;
  /** Until then one that knows less lets the other one go first: just after its start, and after it handed over. */
  readonly yieldsUntilMs: number;
  /** Since when neither a leader nor a lock store that could tell has been seen. */
  readonly leaderlessSinceMs: number;
  /** How long to bear that, for now and to begin with. */
  readonly patienceMs: number;
  readonly patienceMsMin: number;
  /** The last reign could not be stored: not again before this. */
  readonly notBeforeMs: number;
  readonly lastTickMs: number;
  readonly toldPeerAtMs: number;
  readonly ledSinceMs: number;
  /** It has been able to, in this reign. */
  readonly wasAble: boolean;
  /** Since when it has not been able to do what a leader does; undefined while it is. */
  readonly unableSinceMs: number | undefined;
}

export type ElectionEvent =
  /** Now and then, at least every {@link LOCK_EVERY_MS}. */
  | { readonly kind: 'tick' }
  | { readonly kind: 'lock'; readonly answer: 'granted' | 'held' | 'down' }
  /** The answer to `ask peer` or `tell peer`; `silent` when none came in time. */
  | { readonly kind: 'peer'; readonly answer: PeerSight | 'silent' }
  /** The leader hands over, or an operator says so. */
  | { readonly kind: 'lead' }
  | { readonly kind: 'drawn' }
  | { readonly kind: 'not drawn' }
  /** A higher reign was seen, or one that this life did not draw. */
  | { readonly kind: 'deposed' }
  | { readonly kind: 'stop' };

export interface PeerSight {
  readonly leads: boolean;
  readonly able: boolean;
}

/** `lead`: begin to command, and say so. `resign`: stop to command. */
export type ElectionEffect =
  | 'take lock'
  | 'release lock'
  | 'ask peer'
  | 'tell peer'
  | 'draw'
  | 'lead'
  | 'resign'
  | 'hand over';

export interface Step {
  readonly next: Election;
  readonly effects: readonly ElectionEffect[];
}

/** What the deciding NameServer knows of itself. */
export interface Sight {
  /** Monotonic. */
  readonly nowMs: number;
  /** It knows every block, and has heard the DataServers lately. */
  readonly isAble: boolean;
}

export function newElection(ask: {
  readonly nameserver: number;
  readonly isAlone: boolean;
  readonly nowMs: number;
}): Election {
  const { nowMs, isAlone, nameserver } = ask;
  // Different for the two, so that they do not try together for ever.
  const patienceMs = SELF_PROMOTE_MS * (1 + nameserver);
  return {
    role: 'standby',
    isAlone,
    hasLock: false,
    isLockAsked: false,
    yieldsUntilMs: nowMs + START_WAIT_MS,
    leaderlessSinceMs: nowMs,
    patienceMs,
    patienceMsMin: patienceMs,
    notBeforeMs: nowMs,
    lastTickMs: nowMs,
    toldPeerAtMs: Number.NEGATIVE_INFINITY,
    ledSinceMs: nowMs,
    wasAble: false,
    unableSinceMs: undefined,
  };
}

export function step(state: Election, event: ElectionEvent, sight: Sight): Step {
  const { nowMs } = sight;
  if (state.role === 'stopped') return afterStop(state, event);
  switch (event.kind) {
    case 'tick':
      return tick(state, sight);
    case 'lock':
      return lockAnswered({ ...state, isLockAsked: false }, event.answer, nowMs);
    case 'peer':
      if (state.role === 'asking') return peerAnswered(state, event.answer, sight);
      if (state.role !== 'leading') return { next: state, effects: [] };
      return peerHeard(state, event.answer, sight);
    case 'lead':
      return state.role === 'standby' || state.role === 'asking' ? draw(state) : { next: state, effects: [] };
    case 'drawn':
      return {
        next: { ...state, role: 'leading', toldPeerAtMs: nowMs, ledSinceMs: nowMs, wasAble: false },
        effects: state.isAlone ? ['lead'] : ['lead', 'tell peer'],
      };
    case 'not drawn':
      return {
        next: { ...state, role: 'standby', hasLock: false, notBeforeMs: nowMs + DRAW_AGAIN_MS },
        effects: state.isAlone ? [] : ['release lock'],
      };
    case 'deposed':
      return deposed(state, nowMs);
    case 'stop':
      return stop(state);
  }
}

function tick(before: Election, { nowMs, isAble }: Sight): Step {
  // Time in which this process did not run is no time in which nobody led.
  const slept = nowMs - before.lastTickMs > LOCK_TTL_MS;
  const leaderlessSinceMs = slept ? nowMs : before.leaderlessSinceMs;
  const unableSinceMs = isAble ? undefined : (before.unableSinceMs ?? nowMs);
  const wasAble = before.wasAble || (isAble && before.role === 'leading');
  const state: Election = { ...before, lastTickMs: nowMs, leaderlessSinceMs, unableSinceMs, wasAble };
  if (state.isAlone)
    return state.role === 'standby' && nowMs >= state.notBeforeMs
      ? draw(state)
      : { next: state, effects: [] };
  const effects: ElectionEffect[] = [];
  let next: Election = state;
  const isRenewal = state.role === 'leading' || state.role === 'drawing';
  const wants = isRenewal || (state.role === 'standby' && nowMs >= state.notBeforeMs);
  if (wants && !state.isLockAsked) {
    next = { ...next, isLockAsked: true };
    effects.push('take lock');
  }
  const isDue = !isAble || nowMs - state.toldPeerAtMs >= TELL_PEER_MS;
  if (state.role === 'leading' && isDue) {
    next = { ...next, toldPeerAtMs: nowMs };
    effects.push('tell peer');
  }
  return { next, effects };
}

function lockAnswered(before: Election, answer: 'granted' | 'held' | 'down', nowMs: number): Step {
  const patienceMs = answer === 'down' ? before.patienceMs : before.patienceMsMin;
  const state: Election = { ...before, hasLock: answer === 'granted', patienceMs };
  // Whoever leads, leads on: the lock is only what makes others not try.
  if (state.role !== 'standby') return { next: state, effects: [] };
  if (answer === 'held') return { next: { ...state, leaderlessSinceMs: nowMs }, effects: [] };
  // It was on its way when this one let it go.
  if (answer === 'granted' && nowMs < state.notBeforeMs)
    return { next: { ...state, hasLock: false }, effects: ['release lock'] };
  return { next: { ...state, role: 'asking' }, effects: ['ask peer'] };
}

function peerAnswered(state: Election, answer: PeerSight | 'silent', { nowMs, isAble }: Sight): Step {
  const leads = answer !== 'silent' && answer.leads;
  const able = answer !== 'silent' && answer.able;
  if (!state.hasLock) {
    if (leads) return { next: follow(state, nowMs), effects: [] };
    const hasWaited = nowMs - state.leaderlessSinceMs >= state.patienceMs;
    if (!hasWaited) return { next: { ...state, role: 'standby' }, effects: [] };
    mark('election-self-promoted');
    return draw(state);
  }
  // A leader that is not able is not disturbed by one that would do no better.
  const isServed = leads && (able || !isAble);
  // After a restart of the leader it is the other one, which knows more, that is to go on.
  const isHotter = able && !isAble && nowMs < state.yieldsUntilMs;
  if (!isServed && !isHotter) return draw(state);
  mark('election-lock-returned');
  return { next: { ...follow(state, nowMs), hasLock: false }, effects: ['release lock'] };
}

/** What the other one says to a leader. */
function peerHeard(state: Election, answer: PeerSight | 'silent', sight: Sight): Step {
  const { nowMs } = sight;
  const next = follow({ ...state, hasLock: false, yieldsUntilMs: nowMs + START_WAIT_MS }, nowMs);
  if (wouldBeBetter(state, answer, sight)) return { next, effects: ['resign', 'hand over', 'release lock'] };
  if (answer !== 'silent' || !isCutOff(state, sight)) return { next: state, effects: [] };
  mark('election-let-go');
  return { next: { ...next, notBeforeMs: nowMs + CUT_OFF_MS_MAX }, effects: ['resign', 'release lock'] };
}

/**
 * Whether it has lost sight of the DataServers, for long. If the other one, which does not answer, sees them, it could do
 * nothing about a leader that keeps the lock. Once in a reign: with the other one dead nobody would be helped by more.
 */
const isCutOff = ({ wasAble, unableSinceMs }: Election, { nowMs, isAble }: Sight): boolean =>
  wasAble && !isAble && nowMs - (unableSinceMs ?? nowMs) >= CUT_OFF_MS_MAX;

/** Whether the other one could do what this leader cannot. Just after it began, it is about to. */
function wouldBeBetter(state: Election, answer: PeerSight | 'silent', { nowMs, isAble }: Sight): boolean {
  const hasSettled = nowMs - state.ledSinceMs >= START_WAIT_MS;
  // A moment of load is none to change the leader for.
  const isUnable = !isAble && nowMs - (state.unableSinceMs ?? nowMs) >= UNABLE_MS_MAX;
  const isBetter = hasSettled && isUnable && answer !== 'silent' && answer.able && !answer.leads;
  if (isBetter) mark('election-handed-over');
  return isBetter;
}

const follow = (state: Election, nowMs: number): Election => ({
  ...state,
  role: 'standby',
  leaderlessSinceMs: nowMs,
});

const draw = (state: Election): Step => ({ next: { ...state, role: 'drawing' }, effects: ['draw'] });

function deposed(state: Election, nowMs: number): Step {
  if (state.role !== 'leading') return { next: state, effects: [] };
  mark('election-deposed');
  // Two that cannot see each other would else take the lead from one another every few seconds.
  const patienceMs = state.hasLock
    ? state.patienceMs
    : Math.min(tunable.selfPromoteMsMax, state.patienceMs * 2);
  const next = { ...follow(state, nowMs), patienceMs, hasLock: false, notBeforeMs: nowMs };
  if (!state.isAlone) return { next, effects: ['resign', 'release lock'] };
  const again = draw(next);
  return { next: again.next, effects: ['resign', ...again.effects] };
}

function stop(state: Election): Step {
  const next: Election = { ...state, role: 'stopped', hasLock: false };
  const isLeading = state.role === 'leading';
  if (state.isAlone) return { next, effects: isLeading ? ['resign'] : [] };
  if (isLeading) return { next, effects: ['resign', 'hand over', 'release lock'] };
  return { next, effects: state.hasLock ? ['release lock'] : [] };
}

/** An answer that was on its way. */
function afterStop(state: Election, event: ElectionEvent): Step {
  const isLate = event.kind === 'lock' && event.answer === 'granted';
  return { next: state, effects: isLate ? ['release lock'] : [] };
}
