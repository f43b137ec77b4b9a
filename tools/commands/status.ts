import { type Command, InvalidArgumentError } from 'commander';
import { type Config, loadConfig } from '../../common/config.ts';
import { DISK_SLOW_MS } from '../../common/limits.ts';
import type { ClusterMap, ServerFigures, ServerInfo } from '../../common/wire/control.ts';
import { BLOCK_SPACE_ROWS_MAX } from '../../common/wire/space.ts';
import { columns, formatAge, formatBytes } from '../cli/columns.ts';
import { ExitCode } from '../cli/exit-codes.ts';
import { openIo, raiseExitCode } from '../cli/io.ts';
import { scrubLine } from '../cli/scrub-line.ts';
import { blockTable, spaceTables } from '../cli/space-tables.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { blockSpaces } from '../cluster/block-spaces.ts';
import { mapOf, type NameServerAnswer, openClusterView, whyNotWritable } from '../cluster/cluster-view.ts';
import { type Diagnosis, diagnose } from '../doctor/diagnose.ts';
import type { Facts, SeenProcess } from '../doctor/facts.ts';
import { gatherFacts } from '../doctor/gather.ts';
import { etaText, formatRate } from '../jobs/texts.ts';

interface StatusOptions extends GlobalOptions {
  readonly space?: boolean;
  /** So many of each disk. */
  readonly blocks?: number;
  readonly check?: boolean;
}

export function register(program: Command): void {
  program
    .command('status')
    .summary('every process, server and block, and whether the cluster takes uploads')
    .description(
      'Lists every process of the cluster in --home, what its NameServers know of servers and blocks, and whether it ' +
        'takes uploads. "tfs doctor" says what to do about it.',
    )
    .option('--space', 'only what every byte of each disk is')
    .option(
      '--blocks <count>',
      'with --space: also as many blocks of each disk, the most garbage first',
      count,
    )
    .option('--check', 'exit with 1 when a process is not up, 5 when no upload is taken')
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<StatusOptions>();
      const home = homeOf(options);
      const config = await loadConfig(home);
      if (options.space === true) {
        const figures = await figuresOf(config);
        const blocks = options.blocks === undefined ? [] : await blockSpaces(home, options.blocks);
        const text = [spaceTables(figures, Date.now()), ...blocks.map(blockTable)].join('\n\n');
        openIo(options.json === true).result({ home, space: figures, blocks }, text);
        return;
      }
      const facts = await gatherFacts(config, process.env);
      const { processes, nameservers, redis, mounts, figures } = facts;
      const cluster = clusterState(facts);
      const diagnosis = diagnose(facts);
      openIo(options.json === true).result(
        { home, verdict: diagnosis.verdict, cluster, nameservers, redis, mounts, processes, figures },
        formatted(facts, cluster, diagnosis, figures),
      );
      if (options.check !== true) return;
      if (!cluster.writable) raiseExitCode(ExitCode.TRY_LATER);
      else if (!processes.every((row) => row.healthy)) raiseExitCode(ExitCode.FAILED);
    });
}

async function figuresOf(config: Config): Promise<ServerFigures> {
  const view = await openClusterView(config);
  try {
    return await view.figures();
  } finally {
    await view.close();
  }
}

interface ClusterState {
  readonly writable: boolean;
  /** Why not. */
  readonly reason: string | null;
  readonly map: ClusterMap | null;
}

function clusterState({ nameservers }: Facts): ClusterState {
  const map = mapOf(nameservers);
  const reason = map === undefined ? 'no NameServer answers' : whyNotWritable(map);
  return { writable: reason === undefined, reason: reason ?? null, map: map ?? null };
}

function formatted(
  { processes, nameservers, redis }: Facts,
  { reason, map }: ClusterState,
  { verdict, findings }: Diagnosis,
  figures: ServerFigures,
): string {
  const parts = [processTable(processes), nameserverTable(nameservers)];
  if (map !== null) parts.push(serverTable(map.servers), blockLines(map), scrubLines(figures));
  const takes =
    reason === null ? 'The cluster takes uploads.' : `The cluster does NOT take uploads: ${reason}.`;
  const count = findings.filter(({ level }) => level !== 'note').length;
  const more =
    verdict === 'healthy' ? '' : `: ${count === 1 ? '1 finding' : `${count} findings`}, see "npx tfs doctor"`;
  parts.push(`${takes} Redis is ${redis.state}. It is ${verdict}${more}.`);
  return parts.join('\n\n');
}

function processTable(processes: readonly SeenProcess[]): string {
  const titles = ['KIND', 'ID', 'PID', 'ADDRESS', 'STATE', 'ROLE', 'UP FOR', 'RESTARTS', 'MOUNT'];
  const rows = processes.map((row) => [
    row.kind,
    row.id,
    row.pid === null ? '-' : String(row.pid),
    row.address,
    row.state,
    row.role ?? '',
    row.ageMs === null ? '-' : formatAge(row.ageMs),
    String(row.restarts),
    row.mount ?? '',
  ]);
  return columns(titles, rows);
}

function nameserverTable(answers: readonly NameServerAnswer[]): string {
  const titles = ['NAMESERVER', 'ROLE', 'EPOCH', 'VIEW', 'SERVERS UP', 'TABLES', 'BLOCKS'];
  const rows = answers.map(({ id, map, whyNot }) => {
    if (map === undefined) return [String(id), 'unreachable', '', whyNot ?? ''];
    const { missing, servers } = map;
    const without = missing.length > 0 ? `, without ${missing.join(', ')}` : '';
    const view = `${map.completeView ? 'complete' : 'incomplete'}${without}`;
    return [
      String(id),
      map.leader ? 'leads' : 'standby',
      String(map.reign.epoch),
      map.leader && map.safeMode ? `${view} (safe mode)` : view,
      `${servers.filter(({ state }) => state === 'up').length} of ${servers.length}`,
      `${map.inStep} of ${servers.length} exact`,
      String(map.blocks.total),
    ];
  });
  return columns(titles, rows);
}

function serverTable(servers: readonly ServerInfo[]): string {
  const titles = [
    'DATASERVER',
    'STATE',
    'DOMAIN',
    'HEARD',
    'USED',
    'FREE',
    'DISK',
    'BLOCKS',
    'OPEN',
    'RECORDS',
  ];
  const rows = servers.map((server) => {
    const { id, state, leaving, drained, domain, heartbeatAgeMs, space, blocks, openBlocks, files } = server;
    const heard = heartbeatAgeMs < 0 ? 'never' : `${(heartbeatAgeMs / 1000).toFixed(1)} s ago`;
    const disk = state === 'missing' ? '' : diskOf(server);
    const used = [formatBytes(space.usedBytes), formatBytes(space.freeBytes)];
    return [
      String(id),
      leaving && state === 'up' ? 'stopping' : drained ? `${state}, draining` : state,
      domain,
      heard,
      ...used,
      disk,
      String(blocks),
      String(openBlocks),
      String(files),
    ];
  });
  return columns(titles, rows);
}

function diskOf({ io }: ServerInfo): string {
  const reason = io.reason === undefined ? '' : `: ${io.reason}`;
  if (io.readOnly) return `read-only${reason}`;
  if (!io.healthy) return `fails${reason}`;
  const probe = `${Math.round(io.probeMs)} ms`;
  return io.slow === true || io.probeMs >= DISK_SLOW_MS ? `slow, ${probe}` : `healthy, ${probe}`;
}

function scrubLines(figures: ServerFigures): string {
  return figures
    .map(
      ({ id, scrub }) =>
        `Scrub     server ${id}: ${scrub === undefined ? '-' : scrubLine(scrub, Date.now())}`,
    )
    .join('\n');
}

/** What is being done to blocks, and until when. */
function workText({
  wantedBlocks,
  wantedBytes,
  running,
  parked,
  bytesPerSecond,
  etaMs,
  etaOfCopies,
  paused,
  trouble,
}: NonNullable<ClusterMap['jobs']>): string {
  if (wantedBlocks === 0 && running === 0 && parked === 0 && trouble === undefined && paused.length === 0)
    return 'none is wanted';
  const wanted = `${wantedBlocks} blocks (${formatBytes(wantedBytes)}) wait, ${running} are under way`;
  const rate = `at ${formatRate(bytesPerSecond)}${etaText({ etaMs, etaOfCopies })}`;
  const left = parked > 0 ? `; ${parked} left alone after failures` : '';
  const stopped = paused.length > 0 ? `; paused: ${paused.join(', ')}` : '';
  const queue = trouble === undefined ? '' : '; no queue: only last copies are made';
  return `${wanted} ${rate}${left}${stopped}${queue} ("npx tfs jobs")`;
}

function blockLines({ servers, blocks, replicas, minWrite, reign, jobs }: ClusterMap): string {
  const sum = (of: (server: ServerInfo) => number) =>
    servers.reduce((total, server) => total + of(server), 0);
  const copies = blocks.byCopies.map((count, n) => {
    const isLast = n === blocks.byCopies.length - 1;
    return `${count} with ${n}${isLast ? ' or more' : ''}`;
  });
  const lost = Math.max(blocks.lostRecords, ...servers.map(({ lostRecords }) => lostRecords));
  const waits = blocks.awaitingSeal === 0 ? '' : ` (the longest for ${formatAge(blocks.oldestUnsealedMs)})`;
  return [
    `Blocks    ${blocks.total}: ${blocks.open} open, ${blocks.sealed} sealed, ${blocks.awaitingSeal} awaiting a seal${waits}`,
    `Copies    ${copies.length === 0 ? 'not counted yet' : copies.join(', ')}: ${blocks.underReplicated} blocks with too few`,
    `Trouble   ${blocks.suspect} suspect, ${blocks.quarantined} quarantined, ${blocks.stale} stale, ${blocks.contradicted} contradicted, ${lost} records lost`,
    ...(jobs === undefined ? [] : [`Work      ${workText(jobs)}`]),
    `Records   ${sum((s) => s.files)} on all disks together (${replicas} copies wanted, ${minWrite} needed), ${sum((s) => s.aliases)} alias copies`,
    `Space     ${formatBytes(sum((s) => s.space.usedBytes))} used, ${formatBytes(sum((s) => s.space.freeBytes))} free on ${servers.length} mounts`,
    `Leader    NameServer ${reign.nameserver}, epoch ${reign.epoch}`,
  ].join('\n');
}

function count(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= BLOCK_SPACE_ROWS_MAX) return value;
  throw new InvalidArgumentError(`a number from 1 to ${BLOCK_SPACE_ROWS_MAX} is needed`);
}
