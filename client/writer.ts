import { type ErrorCode, TfsError, toTfsError } from '../common/errors.ts';
import { formatHostPort, type ServerId, serverId } from '../common/ids.ts';
import {
  CLIENT_BUDGET_MS_DEFAULT,
  PUT_ATTEMPTS_MAX,
  PUT_ATTEMPTS_PER_ROUND_MAX,
  PUT_PING_MS,
  PUT_SILENT_MS_MAX,
  PUT_WIRE_BYTES_PER_MS_MIN,
  RPC_MS_DEFAULT,
} from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';
import { decodePutReply, encodePut, Op, type PutReply, type PutRequest } from '../common/wire/messages.ts';
import { backoffMs } from './backoff.ts';
import type { Caller } from './caller.ts';
import type { ClusterMapCache } from './cluster-map.ts';
import type { Locations } from './locations.ts';
import type { Pinging } from './pinging.ts';
import type { Preference } from './preference.ts';
import { ContentKeys, rank } from './rendezvous.ts';
import { isUnreachable, type ServerHealth } from './server-health.ts';
import type { ServerPace } from './server-pace.ts';
import { whileAlive } from './while-alive.ts';

export interface WriterParts {
  readonly caller: Caller;
  readonly map: ClusterMapCache;
  readonly locations: Locations;
  readonly health: ServerHealth;
  readonly pace: ServerPace;
  readonly preference: Preference;
  readonly pinging: Pinging;
  readonly clock: Clock;
  readonly random: Random;
  readonly rendezvousKey: Buffer;
  readonly onRetry: () => void;
}

/** Answers that another DataServer would give too. */
const FINAL: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'BAD_REQUEST',
  'EMPTY_BODY',
  'TOO_LARGE',
  'UNSUPPORTED_MEDIA',
  'CONFLICT',
  'GONE',
]);

/**
 * Stores payloads: on the DataServer that rendezvous hashing names for the content, so that equal contents meet and are
 * stored once; where that one cannot, on the next, with the same opId, within a budget of time and attempts.
 */
export class Writer {
  readonly #parts: WriterParts;
  /** Servers that answered, but could not store. Apart from those that do not answer: they may well be read from. */
  readonly #refusals: ServerHealth;

  readonly #contentKeys: ContentKeys;

  constructor(parts: WriterParts, refusals: ServerHealth) {
    this.#parts = parts;
    this.#contentKeys = new ContentKeys(parts.rendezvousKey);
    this.#refusals = refusals;
  }

  /**
   * @param payload kept by reference until the promise settles
   * @throws TfsError of the request, or UNAVAILABLE and its kin (503) when the budget is used up. The picture may then
   *   have been stored all the same, under a name that nobody knows.
   */
  async put(request: PutRequest, payload: readonly Buffer[]): Promise<PutReply> {
    const { clock, map, random, onRetry } = this.#parts;
    const deadlineAt = clock.monotonic() + CLIENT_BUDGET_MS_DEFAULT;
    const header = encodePut(request);
    const content = this.#contentKeys.of(request.sha1);
    const failures: string[] = [];
    let last: TfsError | undefined;
    let attempts = 0;
    for (let round = 1; ; round++) {
      if (map.current === undefined) await map.get();
      const avoid = new Set<ServerId>();
      const tried = new Set<ServerId>();
      for (;;) {
        // Looked at anew after each failure, because the failure may have told which servers to avoid.
        const server = this.#order(rank(content, map.weighted), avoid).find((id) => !tried.has(id));
        const left = deadlineAt - clock.monotonic();
        const isRoundOver = server === undefined || tried.size >= PUT_ATTEMPTS_PER_ROUND_MAX;
        if (isRoundOver || attempts >= PUT_ATTEMPTS_MAX || left <= 0) break;
        tried.add(server);
        if (attempts++ > 0) {
          mark('put-on-another-server');
          onRetry();
        }
        try {
          return await this.#putOn(server, header, payload, Math.min(left, RPC_MS_DEFAULT));
        } catch (error) {
          last = toTfsError(error);
          if (FINAL.has(last.code)) throw last;
          this.#noteFailure(server, last, avoid);
          failures.push(`server ${server}: ${last.code} ${last.message}`);
        }
      }
      const left = deadlineAt - clock.monotonic();
      if (attempts >= PUT_ATTEMPTS_MAX || left <= 0) throw exhausted(last, failures);
      map.noteTrouble();
      await clock.sleep(Math.min(left, backoffMs(round, random)));
    }
  }

  async #putOn(server: ServerId, header: Buffer, payload: readonly Buffer[], ms: number): Promise<PutReply> {
    const { caller, clock, map, health, locations, pace, pinging } = this.#parts;
    const address = map.addressOf(server);
    if (address === undefined) throw new TfsError('UNAVAILABLE', 'not in the cluster map');
    const size = payload.reduce((sum, piece) => sum + piece.length, 0);
    const answer = await whileAlive(Promise.resolve(caller.call(address, Op.PUT, header, payload, ms)), {
      clock,
      where: formatHostPort(address),
      silentMs: PUT_SILENT_MS_MAX + size / PUT_WIRE_BYTES_PER_MS_MIN,
      pingMs: PUT_PING_MS,
      ping: () => pinging.ping(server),
      pingOthers: () => pinging.pingOthers(server),
      heardAt: () => pace.heardAt(server),
      isOtherHeard: (since) => pace.isOtherHeard(server, since),
    });
    const reply = decodePutReply(answer.header);
    health.succeeded(server);
    pace.heard(server);
    this.#refusals.succeeded(server);
    // Fresh records and aliases are both in blocks whose operations this server orders.
    locations.seed(reply.block, { members: reply.members, opsPrimary: server });
    return reply;
  }

  /** In rendezvous order, but first those that are likely to store it, the slow ones after the fast. */
  #order(ranked: readonly ServerId[], avoid: ReadonlySet<ServerId>): readonly ServerId[] {
    const { preference, map } = this.#parts;
    const likely = (id: ServerId) =>
      map.isWritable(id) && preference.isReachable(id) && !this.#refusals.isTroubled(id) && !avoid.has(id);
    const tier = (id: ServerId) => (!likely(id) ? 2 : preference.isSlow(id) ? 1 : 0);
    const tiers = ranked.map(tier);
    if (tiers.every((n) => n === 0)) return ranked;
    return [0, 1, 2].flatMap((wanted) => ranked.filter((_, i) => tiers[i] === wanted));
  }

  #noteFailure(server: ServerId, error: TfsError, avoid: Set<ServerId>): void {
    if (isUnreachable(error)) {
      this.#parts.health.failed(server);
      this.#parts.map.noteTrouble();
    } else if (error.code !== 'OVERLOADED') this.#refusals.failed(server);
    const members = error.details?.['avoid'];
    if (Array.isArray(members)) for (const id of members as number[]) avoid.add(serverId(id));
  }
}

function exhausted(last: TfsError | undefined, failures: readonly string[]): TfsError {
  const reasons = [...new Set(failures)].join('; ') || 'the cluster has no DataServer';
  const code = last?.code === 'NO_WRITE_SET' || last?.code === 'OVERLOADED' ? last.code : 'UNAVAILABLE';
  return new TfsError(code, `no DataServer can store this now (${reasons})`, {
    cause: last,
    retryAfterMs: last?.retryAfterMs ?? 1000,
  });
}
