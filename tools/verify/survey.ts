import { isTfsError, toTfsError } from '../../common/errors.ts';
import type { BlockId, ServerId } from '../../common/ids.ts';
import { VERIFIES_RUNNING_MAX } from '../../common/limits.ts';
import type { ServerInfo, VerifyReply } from '../../common/wire/control.ts';
import { type BlockEntry, BlockState } from '../../common/wire/messages.ts';
import type { Finding } from './findings.ts';
import type { Operator } from './operator.ts';
import { planReads, type ReplicaTask } from './plan.ts';

export interface SurveyOptions {
  readonly allReplicas: boolean;
  /** Before the first replica is read: bytes there are to read. */
  readonly onStart: (bytes: number) => void;
  /** @param bytes read so far */
  readonly onProgress: (bytes: number) => void;
  readonly onFinding: (finding: Finding) => void;
  /** A server whose replicas cannot be read, and why. */
  readonly onUnread: (server: ServerId, why: string) => void;
}

export interface Survey {
  readonly servers: readonly ServerInfo[];
  readonly replicas: number;
  readonly blocks: number;
  readonly records: number;
  readonly bytes: number;
  readonly findings: readonly Finding[];
  /** Sealed replicas that are sound, each by itself, and not the same: nothing repairs that. */
  readonly differing: readonly Finding[];
  /** Replicas of each block that were read. */
  readonly holders: ReadonlyMap<BlockId, number>;
  /** Servers whose replicas were not read. */
  readonly unread: readonly ServerId[];
}

/** Reads replicas through, a few at a time on each server, and compares those of one block with each other. */
export async function survey(operator: Operator, options: SurveyOptions): Promise<Survey> {
  const { servers } = await operator.map();
  const unread: ServerId[] = [];
  const tables = new Map<ServerId, readonly BlockEntry[]>();
  await Promise.all(
    servers.map(async (server) => {
      try {
        if (server.state !== 'up') throw new Error(`it is ${server.state}`);
        tables.set(server.id, await operator.list(server));
      } catch (error) {
        unread.push(server.id);
        options.onUnread(server.id, toTfsError(error).message);
      }
    }),
  );
  const { tasks, missing } = planReads(tables, options.allReplicas);
  const run = new Run(operator, options, servers);
  options.onStart(tasks.reduce((sum, { entry }) => sum + entry.length, 0));
  for (const { server, block } of missing) run.found({ server, block, problem: 'the replica is missing' });
  await Promise.all(
    [...tables.keys()].map((server) => run.readAll(tasks.filter((task) => task.server === server))),
  );
  run.compare();
  return { servers, unread, ...run.totals() };
}

class Run {
  readonly #operator: Operator;
  readonly #options: SurveyOptions;
  readonly #servers: ReadonlyMap<ServerId, ServerInfo>;
  readonly #findings: Finding[] = [];
  readonly #differing: Finding[] = [];
  readonly #holders = new Map<BlockId, number>();
  /** Sealed replicas by block and generation: digest -> servers. */
  readonly #digests = new Map<string, Map<string, ServerId[]>>();
  #replicas = 0;
  #records = 0;
  #bytes = 0;
  #progress = 0;

  constructor(operator: Operator, options: SurveyOptions, servers: readonly ServerInfo[]) {
    this.#operator = operator;
    this.#options = options;
    this.#servers = new Map(servers.map((server) => [server.id, server]));
  }

  found(finding: Finding): void {
    this.#findings.push(finding);
    this.#options.onFinding(finding);
  }

  async readAll(tasks: readonly ReplicaTask[]): Promise<void> {
    const queue = [...tasks];
    const work = async (): Promise<void> => {
      for (let task = queue.shift(); task !== undefined; task = queue.shift()) await this.#read(task);
    };
    await Promise.all(Array.from({ length: VERIFIES_RUNNING_MAX }, work));
  }

  /** Replicas of one generation of a sealed block are the same bytes. */
  compare(): void {
    for (const [key, digests] of this.#digests) {
      if (digests.size <= 1) continue;
      const block = Number(key.slice(0, key.indexOf('.'))) as BlockId;
      for (const [digest, servers] of digests)
        for (const server of servers) {
          const problem = `replicas differ: the digest here is ${digest.slice(0, 16)}…`;
          this.#differing.push({ server, block, problem });
          this.#options.onFinding({ server, block, problem });
        }
    }
  }

  totals() {
    return {
      replicas: this.#replicas,
      blocks: this.#holders.size,
      records: this.#records,
      bytes: this.#bytes,
      findings: this.#findings,
      differing: this.#differing,
      holders: this.#holders,
    };
  }

  async #read({ server, entry }: ReplicaTask): Promise<void> {
    const { block } = entry;
    const info = this.#servers.get(server)!;
    try {
      const report = await this.#operator.verify(info, block);
      this.#note(server, entry, report);
    } catch (error) {
      if (isTfsError(error, 'DONT_KNOW') && !(await this.#isThere(info, block))) return;
      this.found({ server, block, problem: `could not be read: ${toTfsError(error).message}` });
    } finally {
      this.#progress += entry.length;
      this.#options.onProgress(this.#progress);
    }
  }

  #note(server: ServerId, entry: BlockEntry, report: VerifyReply): void {
    const { block, generation } = entry;
    this.#replicas++;
    this.#holders.set(block, (this.#holders.get(block) ?? 0) + 1);
    this.#records += report.records;
    this.#bytes += report.bytes;
    for (const problem of report.problems) this.found({ server, block, problem });
    const untold = report.problemCount - report.problems.length;
    if (untold > 0) this.found({ server, block, problem: `and ${untold} more` });
    if (entry.state !== BlockState.SEALED || report.digest === undefined) return;
    const key = `${block}.${generation}`;
    const digests = this.#digests.get(key) ?? new Map<string, ServerId[]>();
    this.#digests.set(key, digests);
    digests.set(report.digest, [...(digests.get(report.digest) ?? []), server]);
  }

  /** It may have been dropped, or never have been completed, since the server listed it. */
  async #isThere(server: ServerInfo, block: BlockId): Promise<boolean> {
    const entries = await this.#operator.list(server).catch(() => undefined);
    return entries === undefined || entries.some((entry) => entry.block === block);
  }
}
