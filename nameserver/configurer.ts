import { TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId, Version } from '../common/ids.ts';
import {
  ATTACH_RETRY_MS_MIN,
  DOUBT_MS_MAX,
  PROVISIONAL_AFTER_MS,
  RECONFIGURES_RUNNING_MAX,
} from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import type { ConfigurationWish, Member, Reign, RequestCfgReply } from '../common/wire/control.ts';
import { BlockState } from '../common/wire/messages.ts';
import { AilingServers } from './ailing-servers.ts';
import type { BlockMap } from './block-map.ts';
import type { Commands } from './commands.ts';
import { type MemberSight, planConfiguration } from './configuration-plan.ts';

export interface ConfigurerDeps {
  readonly map: BlockMap;
  readonly commands: Commands;
  readonly clock: Clock;
  readonly log: Log;
  readonly minWrite: number;
  /** Undefined while this NameServer does not lead. */
  readonly reign: () => Reign | undefined;
  /** Undefined while the server cannot be commanded. */
  readonly reachable: (server: ServerId, reign: Reign) => Member | undefined;
  /** Where it was last, up or not. */
  readonly address: (server: ServerId) => Member | undefined;
  readonly domainOf: (server: ServerId) => string;
  /** Failure domains of all servers that are not to be emptied, there or away. */
  readonly domainsInAll: () => number;
  /** Whether it is to be emptied. */
  readonly isDrained: (server: ServerId) => boolean;
  /** Whether its disk takes writes. */
  readonly canWrite: (server: ServerId) => boolean;
  /**
   * Monotonic time from which on the server believed no leader any more that its replicas are all current, were it told
   * nothing new: {@link PROVISIONAL_AFTER_MS} after this leader's last such word or, of a server that has not promised
   * to this leader, after that of any older one.
   */
  readonly unconfirmedFromMs: (server: ServerId, reign: Reign) => number;
  /** A block whose replica has to be sealed before it can belong to anything. */
  readonly seal: (block: BlockId, why: string, holders: readonly ServerId[]) => void;
}

/** What a change of a configuration is to bring, beside the members that there can be. */
interface Wish {
  readonly failed: ReadonlySet<ServerId>;
  readonly renew?: boolean;
  readonly membersMin?: number;
  readonly wanted?: number;
}

/** A member that is about to be left out: the leader names it as not current from now on. */
interface Doubt {
  readonly block: BlockId;
  readonly server: ServerId;
  /** Monotonic: from then on no word that was given before the doubt is believed. */
  readonly toldFromMs: number;
  /** Monotonic: when it is taken back, if the member is one all the same. */
  untilMs: number;
}

interface Attach {
  dueAtMs: number;
  attempts: number;
}

/** A configuration that was decided on, and may have begun on some of its members. */
class HalfBegun extends TfsError {
  constructor(message: string, cause: unknown) {
    super('UNAVAILABLE', message, { cause, retryAfterMs: 500 });
  }
}

/**
 * Gives blocks new configurations: without a member that cannot be reached, when an operation waits for it; and with
 * a replica that has come back. One change of a block at a time.
 */
export class Configurer {
  readonly stats = { configured: 0, failures: 0 };
  readonly #deps: ConfigurerDeps;
  readonly #running = new Map<BlockId, Promise<void>>();
  /** Blocks with a replica that has come back, and when it is tried next. */
  readonly #attach = new Map<BlockId, Attach>();
  /** By `block server`. */
  readonly #doubted = new Map<string, Doubt>();
  readonly #ailing: AilingServers;
  /** The newest version that was tried, which a member may hold although nobody has reported it. */
  readonly #tried = new Map<BlockId, Version>();
  #closed = false;

  constructor(deps: ConfigurerDeps) {
    this.#deps = deps;
    this.#ailing = new AilingServers(deps.clock);
  }

  /** Changes under way. */
  get running(): number {
    return this.#running.size;
  }

  /**
   * A member needs the block to go on without those that it cannot reach.
   *
   * @param wish renew: begin a version in any case, as members wait for one that was never finished. sound: only where a
   *   member that has not failed has a sound copy. server: who asks; for one that is no member nothing changes, as it still
   *   holds a configuration that the others have left, and only has to hear of theirs
   * @returns the configuration as it is then
   * @throws TfsError NOT_LEADER; DONT_KNOW for an unknown block; UNAVAILABLE where too few members answer, or while one
   *   that is to be left out may still think itself current
   */
  async request(
    block: BlockId,
    failed: readonly ServerId[],
    { renew = false, sound = false, server: by }: ConfigurationWish & { readonly server?: ServerId } = {},
  ): Promise<RequestCfgReply> {
    const { map } = this.#deps;
    const before = map.facts(block);
    if (before === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not known here`);
    const held = before.replicas.filter(({ member }) => member);
    const isOutside = by !== undefined && held.every(({ server }) => server !== by);
    const isInVain = sound && !held.some(({ server, good }) => good && !failed.includes(server));
    if (isOutside) mark('configuration-told');
    else if (isInVain) throw unavailable(`no other member of block ${block} has a sound copy`);
    else await this.#change(block, { failed: new Set(failed), renew });
    const facts = map.facts(block);
    if (facts?.opsPrimary === undefined)
      throw new TfsError('DONT_KNOW', `block ${block} is not known here any more`);
    const members = facts.replicas
      .filter((replica) => replica.member)
      .map(({ server }) => this.#deps.address(server))
      .filter((member) => member !== undefined);
    return { version: facts.version, opsPrimary: facts.opsPrimary, members };
  }

  /**
   * The block is to go on without this member, and with as many as it wants all the same.
   *
   * @throws TfsError as {@link request}; UNAVAILABLE also where there is no other replica to take its place
   */
  async leaveOut(block: BlockId, server: ServerId): Promise<void> {
    const facts = this.#deps.map.facts(block);
    const membersMin = facts?.targetReplicas ?? 0;
    const others = facts?.replicas.filter(
      ({ server: other, member, stale }) => member && !stale && other !== server,
    );
    // The only one that holds the newest configuration: whoever is to take its place learns of it first.
    if (others?.length === 0) {
      const wanted = membersMin + 1;
      await this.#change(block, { failed: NOBODY, membersMin: wanted, wanted });
    }
    await this.#change(block, { failed: new Set([server]), membersMin });
  }

  /** Takes returned replicas in again, and forgets doubts that came to nothing. Called now and then. */
  pump(): void {
    const { map, clock } = this.#deps;
    const reign = this.#deps.reign();
    if (this.#closed || reign === undefined) return;
    const now = clock.monotonic();
    for (const [key, { block, server, untilMs }] of this.#doubted) {
      if (now < untilMs || this.#running.has(block)) continue;
      this.#doubted.delete(key);
      map.trust(block, server);
    }
    for (const server of map.staleServers) {
      if (this.#deps.reachable(server, reign) === undefined) continue;
      for (const block of map.staleOf(server)) {
        if (this.#running.size >= RECONFIGURES_RUNNING_MAX) return;
        if (!this.#running.has(block)) this.#tryAttach(block, server, now);
      }
    }
    for (const block of this.#attach.keys()) if (map.facts(block) === undefined) this.#attach.delete(block);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#running.values());
  }

  #tryAttach(block: BlockId, server: ServerId, now: number): void {
    // Of one that is about to be left out another replica of the block has to be the reason.
    if (this.#doubted.has(keyOf(block, server))) return;
    const attach = this.#attach.get(block) ?? { dueAtMs: now, attempts: 0 };
    this.#attach.set(block, attach);
    if (attach.dueAtMs > now) return;
    const delayMs = Math.min(
      tunable.attachRetryMsMax,
      ATTACH_RETRY_MS_MIN * 2 ** Math.min(attach.attempts, 16),
    );
    attach.attempts++;
    attach.dueAtMs = now + delayMs;
    const replica = this.#deps.map.facts(block)?.replicas.find((one) => one.server === server);
    if (replica === undefined) return;
    if (replica.state !== BlockState.SEALED) {
      this.#deps.seal(block, 'a replica that was away has come back', [server]);
      return;
    }
    this.#change(block, { failed: NOBODY }).then(
      () => {
        if (!this.#deps.map.staleOf(server).includes(block)) this.#attach.delete(block);
      },
      (error: unknown) => {
        const { log } = this.#deps;
        const reason = toTfsError(error).message;
        log.debug({ block, server, reason }, 'a replica that came back cannot be taken in yet');
        // Those who took part wait for it, and take no operation meanwhile.
        if (error instanceof HalfBegun)
          this.#change(block, { failed: NOBODY, renew: true }).catch((again: unknown) => {
            log.debug({ block, reason: toTfsError(again).message }, 'nor can the others go on at once');
          });
      },
    );
  }

  /** One at a time for each block; who comes while one is under way waits for it and looks again. */
  async #change(block: BlockId, wish: Wish): Promise<void> {
    for (let other = this.#running.get(block); other !== undefined; other = this.#running.get(block))
      await other.catch(() => undefined);
    const run = this.#run(block, wish).finally(() => this.#running.delete(block));
    this.#running.set(block, run);
    // Whoever waits sees the failure; nobody has to.
    run.catch(() => undefined);
    return run;
  }

  async #run(block: BlockId, wish: Wish): Promise<void> {
    const { map, minWrite, domainsInAll, commands, log } = this.#deps;
    const reign = this.#requireReign();
    const facts = map.facts(block);
    if (facts === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not known here`);
    const planWith = (isSpared: boolean) =>
      planConfiguration({
        facts,
        minWrite,
        domainsInAll: domainsInAll(),
        ...wish,
        sight: (server) => this.#sight(block, server, reign, isSpared),
      });
    let plan = planWith(true);
    if (plan.kind === 'refuse') plan = planWith(false);
    if (plan.kind === 'keep') return;
    if (plan.kind === 'refuse') {
      mark('configuration-refused');
      throw unavailable(plan.why);
    }
    if (plan.kind === 'wait') {
      mark('configuration-waits');
      this.#doubt(block, plan.doubt, PROVISIONAL_AFTER_MS);
      // When they have been told, and not, as after many failures, when that has been taken back already.
      const attach = this.#attach.get(block);
      const toldAtMs = this.#deps.clock.monotonic() + PROVISIONAL_AFTER_MS;
      if (attach !== undefined) attach.dueAtMs = Math.min(attach.dueAtMs, toldAtMs);
      throw unavailable(
        `server ${plan.doubt.join(', ')} is left out of block ${block} as soon as it cannot think itself current any more`,
      );
    }
    const { members, opsPrimary } = plan;
    const version = this.#nextVersion(block, facts.version, reign);
    const reached = members.map((server) => this.#deps.reachable(server, reign));
    const all = reached.filter((member) => member !== undefined);
    const primary = all.find(({ id }) => id === opsPrimary);
    if (primary === undefined || all.length < members.length)
      throw unavailable(`a member of block ${block} went away`);
    // Whoever is left out is harmless now, and has to stay so until this is known to have come to something or to nothing:
    // it may come back at any moment, and the others may go on without it before this leader hears of that.
    const leftOut = facts.replicas
      .filter(({ server, member }) => member && !members.includes(server))
      .map(({ server }) => server);
    this.#doubt(block, leftOut, 0);
    try {
      const { seq } = await commands.configure(primary, { block, reign, version, members: all });
      map.configured(block, { version, members, opsPrimary, seq });
    } catch (error) {
      this.stats.failures++;
      // It may have begun all the same, or may yet: then a member says so soon.
      const untilMs = this.#deps.clock.monotonic() + DOUBT_MS_MAX;
      for (const server of leftOut) {
        const doubt = this.#doubted.get(keyOf(block, server));
        if (doubt !== undefined) doubt.untilMs = untilMs;
      }
      const failure = toTfsError(error);
      this.#ailing.failed(failure, opsPrimary);
      throw new HalfBegun(`block ${block} could not be given a new configuration: ${failure.message}`, error);
    }
    this.#ailing.tookPart(members);
    this.stats.configured++;
    const before = facts.replicas.filter(({ member }) => member);
    if (before.some(({ server }) => !members.includes(server))) mark('configured-without-member');
    if (before.every(({ stale }) => stale)) mark('configuration-begun-anew');
    if (members.some((server) => !before.some((one) => one.server === server && !one.stale)))
      mark('replica-attached');
    this.#tried.delete(block);
    // Sealed by all of its members now, where it was not by all of its write set: which makes the seal complete.
    const stateOf = (server: ServerId) => facts.replicas.find((one) => one.server === server)?.state;
    const isLeftOpen = facts.replicas.some(({ state }) => state !== 0 && state !== BlockState.SEALED);
    if (isLeftOpen && members.every((server) => stateOf(server) === BlockState.SEALED))
      this.#deps.seal(block, 'it was sealed without a member, and has a configuration without it', []);
    // Whoever was left out is no member. Where a later configuration was reported meanwhile that has all of them, the map
    // knows nothing of this one, and nobody else would take the doubt back.
    for (const { server } of facts.replicas)
      if (this.#doubted.delete(keyOf(block, server))) map.trust(block, server);
    log.info(
      { block, version, members, opsPrimary, before: facts.opsPrimary },
      'a block has a new configuration',
    );
  }

  /** @param isSpared nothing is begun with a server that could not take part lately */
  #sight(block: BlockId, server: ServerId, reign: Reign, isSpared: boolean): MemberSight {
    const { clock, reachable, canWrite, domainOf, isDrained, unconfirmedFromMs } = this.#deps;
    const now = clock.monotonic();
    const doubted = this.#doubted.get(keyOf(block, server));
    // Every word of this leader since the doubt has named the block; an older one holds for a while.
    const told = doubted !== undefined && now >= doubted.toldFromMs;
    const isPromised = reachable(server, reign) !== undefined;
    return {
      reachable: isPromised,
      domain: domainOf(server),
      drained: isDrained(server),
      writable: canWrite(server) && !(isSpared && this.#ailing.has(server)),
      harmless: (told && isPromised) || now >= unconfirmedFromMs(server, reign),
    };
  }

  /** @param believedMs for how long they may go on believing what they were told before */
  #doubt(block: BlockId, servers: readonly ServerId[], believedMs: number): void {
    const { map, clock } = this.#deps;
    const now = clock.monotonic();
    for (const server of servers) {
      const key = keyOf(block, server);
      if (this.#doubted.has(key)) continue;
      this.#doubted.set(key, { block, server, toldFromMs: now + believedMs, untilMs: now + DOUBT_MS_MAX });
      map.doubt(block, server);
    }
  }

  #nextVersion(block: BlockId, known: Version, reign: Reign): Version {
    const tried = this.#tried.get(block);
    const newest =
      tried !== undefined && tried.epoch >= known.epoch ? Math.max(tried.n, inEpoch(known, tried)) : known.n;
    const epoch = tried === undefined ? known.epoch : Math.max(tried.epoch, known.epoch);
    const n = epoch === reign.epoch ? newest + 1 : 1;
    if (n > 0xffff)
      throw unavailable(
        `block ${block} has had ${n} configurations in one reign: let another NameServer lead`,
      );
    const version: Version = { epoch: reign.epoch, n };
    this.#tried.set(block, version);
    return version;
  }

  #requireReign(): Reign {
    const reign = this.#deps.reign();
    if (reign === undefined)
      throw new TfsError('NOT_LEADER', 'this NameServer does not lead: ask the other one');
    return reign;
  }
}

const NOBODY: ReadonlySet<ServerId> = new Set();
const keyOf = (block: BlockId, server: ServerId): string => `${block} ${server}`;
const inEpoch = (version: Version, other: Version): number => (version.epoch === other.epoch ? version.n : 0);
const unavailable = (message: string, cause?: unknown): TfsError =>
  new TfsError('UNAVAILABLE', message, { cause, retryAfterMs: 500 });
