import { TfsError, toTfsError } from '../../common/errors.ts';
import type { BlockId } from '../../common/ids.ts';
import type { Log } from '../../common/log.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { JobQueues } from '../../common/seams/job-queue.ts';
import type { ClusterMap } from '../../common/wire/control.ts';
import type { JobsReply, PlanReply, SaidWork, WhyReply } from '../../common/wire/job-questions.ts';
import { BlockState } from '../../common/wire/messages.ts';
import type { BlockFacts, ReplicaFacts } from '../block-facts.ts';
import type { BlockMap } from '../block-map.ts';
import { Whole } from '../block-page.ts';
import { planBlock } from '../planner/plan-block.ts';
import type { Planner } from '../planner/planner.ts';
import type { PlanSight } from '../planner/sight.ts';
import type { Work } from '../planner/work.ts';
import type { JobDesk } from './desk.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { Grant } from './grants.ts';
import type { Pauses } from './pauses.ts';
import type { RateMeter } from './rate-meter.ts';

export interface JobAnswersDeps {
  readonly map: BlockMap;
  readonly planner: Planner;
  readonly desk: JobDesk;
  readonly dispatcher: Dispatcher | undefined;
  readonly queues: JobQueues | undefined;
  readonly pauses: Pauses;
  readonly rate: RateMeter;
  readonly copyRate: RateMeter;
  readonly clock: Clock;
  readonly log: Log;
}

/** What people are told of work on blocks: what is under way, what would be done and why. */
export class JobAnswers {
  readonly #deps: JobAnswersDeps;

  constructor(deps: JobAnswersDeps) {
    this.#deps = deps;
  }

  /** For the cluster map. */
  figures(): NonNullable<ClusterMap['jobs']> {
    const { desk, planner, dispatcher, pauses, rate } = this.#deps;
    let [wantedBlocks, wantedBytes] = [0, 0];
    for (const { blocks, bytes } of planner.round?.amounts.values() ?? []) {
      wantedBlocks += blocks;
      wantedBytes += bytes;
    }
    return {
      wantedBlocks,
      wantedBytes,
      running: desk.grants.size,
      parked: desk.failures.parked.length,
      bytesPerSecond: Math.round(rate.perSecond),
      paused: [...pauses.all],
      ...this.#eta(wantedBytes),
      ...(dispatcher?.trouble === undefined ? {} : { trouble: dispatcher.trouble }),
    };
  }

  async jobs(max: number): Promise<JobsReply> {
    const { desk, planner, pauses, clock } = this.#deps;
    const { bytesPerSecond, etaMs, etaOfCopies, trouble } = this.figures();
    const now = clock.monotonic();
    return {
      ...(trouble === undefined ? {} : { trouble }),
      ...(planner.round === undefined ? {} : { amounts: this.#amounts() }),
      ...(etaMs === undefined ? {} : { etaMs }),
      etaOfCopies,
      paused: [...pauses.all],
      bytesPerSecond,
      running: [...desk.grants.all()].slice(0, max).map((grant) => this.#running(grant)),
      parked: desk.failures.parked.slice(0, max).map(({ atMs, ...rest }) => ({ ...rest, agoMs: now - atMs })),
      queues: await this.#queues(),
    };
  }

  plan(max: number): PlanReply {
    const { planner, pauses } = this.#deps;
    const wanted = planner.round?.wanted;
    return {
      ...(wanted === undefined ? {} : { work: wanted.slice(0, max).map(said) }),
      amounts: this.#amounts(),
      paused: [...pauses.all],
    };
  }

  /** @throws TfsError NOT_FOUND for a block that nobody reports */
  why(block: BlockId): WhyReply {
    const { map, desk, clock } = this.#deps;
    const facts = map.facts(block);
    if (facts === undefined) throw new TfsError('NOT_FOUND', `no DataServer reports a block ${block}`);
    const sight = desk.sight();
    const { work, blocked } = planBlock(facts, sight);
    const now = clock.monotonic();
    return {
      block,
      state: STATES[facts.whole],
      generation: facts.generation,
      length: facts.length,
      wanted: facts.targetReplicas,
      deadBytes: facts.deadBytes,
      version: facts.version,
      replicas: facts.replicas.map((replica) => ({
        server: replica.server,
        domain: sight.servers.get(replica.server)?.domain ?? '',
        says: wordsOf(replica, facts, sight),
      })),
      work: work.map(said),
      blocked: [...blocked],
      running: [...desk.grants.all()]
        .filter((grant) => grant.block === block)
        .map((grant) => this.#running(grant)),
      parked: desk.failures.parked
        .filter((failure) => failure.block === block)
        .map(({ kind, server, count, atMs, reason }) => ({ kind, server, count, reason, agoMs: now - atMs })),
    };
  }

  /** What is urgent is not to look as far away as what is not. */
  #eta(wantedBytes: number): { etaMs?: number; etaOfCopies: boolean } {
    const { rate, copyRate, planner } = this.#deps;
    if (planner.round === undefined) return { etaOfCopies: false };
    const copies = planner.round.amounts.get('replicate')?.bytes ?? 0;
    const etaOfCopies = copies > 0;
    const [bytes, { perSecond }] = etaOfCopies ? [copies, copyRate] : [wantedBytes, rate];
    if (bytes === 0) return { etaMs: 0, etaOfCopies };
    return perSecond > 0 ? { etaMs: Math.round((1000 * bytes) / perSecond), etaOfCopies } : { etaOfCopies };
  }

  #amounts(): PlanReply['amounts'] {
    const amounts = this.#deps.planner.round?.amounts ?? [];
    return [...amounts].map(([kind, { blocks, bytes }]) => ({ kind, blocks, bytes }));
  }

  #running({ kind, block, server, priority, reason, bytes, sinceMs }: Grant) {
    const forMs = this.#deps.clock.monotonic() - sinceMs;
    return { kind, block, server, priority, reason, bytes, forMs };
  }

  async #queues(): Promise<JobsReply['queues']> {
    const { queues, desk, log } = this.#deps;
    if (queues === undefined) return [];
    const ids = [...desk.sight().servers.values()].filter(({ isCurrent }) => isCurrent).map(({ id }) => id);
    try {
      return await Promise.all(ids.map(async (server) => ({ server, ...(await queues.counts(server)) })));
    } catch (error) {
      log.debug({ reason: toTfsError(error).message }, 'the job queues cannot be counted');
      return [];
    }
  }
}

const said = ({ kind, block, target, priority, reason, bytes }: Work): SaidWork => ({
  kind,
  block,
  server: target,
  priority,
  reason,
  bytes,
});

const STATES: Readonly<Record<Whole, string>> = {
  [Whole.OPEN]: 'open: it is being written',
  [Whole.UNSEALED]: 'waits for its seal',
  [Whole.SEALED]: 'sealed',
  [Whole.OPENING]: 'given out, and not reported yet',
};

const REPLICA_STATES: Readonly<Record<number, string>> = {
  0: 'not reported',
  [BlockState.OPEN]: 'open',
  [BlockState.FENCED]: 'fenced',
  [BlockState.SEALED]: 'sealed',
  [BlockState.RECOVERED]: 'recovered, waits for its seal',
};

/** What can be said of one replica, most important first. */
function wordsOf(replica: ReplicaFacts, facts: BlockFacts, sight: PlanSight): string[] {
  const seen = sight.servers.get(replica.server);
  const words = [REPLICA_STATES[replica.state] ?? `state ${replica.state}`];
  if (!replica.readable) words.push('cannot be read');
  else if (!replica.good) words.push('damaged');
  if (!replica.member) words.push('no member of the configuration');
  else if (replica.server === facts.opsPrimary) words.push('orders the operations');
  if (replica.stale && replica.state !== 0) words.push('may lack operations');
  if (replica.behind) words.push('is behind in operations');
  if (!replica.confirmed) words.push('not confirmed since its server registered');
  if (replica.sealedAt !== undefined) words.push(`sealed at ${replica.sealedAt} bytes, unlike others`);
  if (seen === undefined) words.push('its server is no part of the cluster any more');
  else if (seen.givenUp !== undefined) words.push(`does not count: its server is ${seen.givenUp}`);
  else if (!seen.isCurrent) words.push('its server is away');
  return words;
}
