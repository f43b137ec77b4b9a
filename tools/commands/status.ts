import type { Command } from 'commander';
import { type Config, loadConfig } from '../../common/config.ts';
import { toTfsError } from '../../common/errors.ts';
import type { ClusterMap } from '../../common/wire/control.ts';
import { ExitCode } from '../cli/exit-codes.ts';
import { openIo, raiseExitCode } from '../cli/io.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { openClusterView, whyNotWritable } from '../cluster/cluster-view.ts';
import { pm2Of } from '../cluster/pm2.ts';
import { listProcesses, type ProcessRow } from '../cluster/processes.ts';

interface StatusOptions extends GlobalOptions {
  readonly check?: boolean;
}

export function register(program: Command): void {
  program
    .command('status')
    .summary('every process, and whether the cluster takes uploads')
    .description('Lists every process of the cluster in --home, and whether the cluster takes uploads.')
    .option('--check', 'exit with 1 when a process is not up, 5 when no upload is taken')
    .action(async (_own: unknown, command: Command) => {
      const options = command.optsWithGlobals<StatusOptions>();
      const home = homeOf(options);
      const config = await loadConfig(home);
      const managed = await pm2Of(home, process.env).list();
      const [processes, cluster] = await Promise.all([
        listProcesses(config, managed, process.env),
        clusterState(config),
      ]);
      openIo(options.json === true).result({ home, cluster, processes }, formatted(processes, cluster));
      if (options.check !== true) return;
      if (!cluster.writable) raiseExitCode(ExitCode.TRY_LATER);
      else if (!processes.every((row) => row.healthy)) raiseExitCode(ExitCode.FAILED);
    });
}

interface ClusterState {
  readonly writable: boolean;
  /** Why not. */
  readonly reason: string | null;
  readonly map: ClusterMap | null;
}

async function clusterState(config: Config): Promise<ClusterState> {
  try {
    const view = await openClusterView(config);
    try {
      const map = await view.map();
      const reason = whyNotWritable(map);
      return { writable: reason === undefined, reason: reason ?? null, map };
    } finally {
      await view.close();
    }
  } catch (error) {
    return { writable: false, reason: toTfsError(error).message, map: null };
  }
}

const COLUMNS = ['KIND', 'ID', 'PID', 'ADDRESS', 'STATE', 'ROLE', 'RESTARTS', 'MOUNT'] as const;

function formatted(processes: readonly ProcessRow[], { reason, map }: ClusterState): string {
  const rows = processes.map((row) => [
    row.kind,
    row.id,
    row.pid === null ? '-' : String(row.pid),
    row.address,
    row.state,
    row.role ?? '',
    String(row.restarts),
    row.mount ?? '',
  ]);
  const widths = COLUMNS.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  const table = [line(COLUMNS), ...rows.map(line)].join('\n');
  const verdict =
    reason === null ? 'The cluster takes uploads.' : `The cluster does NOT take uploads: ${reason}.`;
  return `${table}\n\n${verdict}${map === null ? '' : `\n${summary(map)}`}`;
}

function summary({ servers, blocks, replicas, minWrite, reign }: ClusterMap): string {
  const sum = (of: (server: ClusterMap['servers'][number]) => number) =>
    servers.reduce((total, server) => total + of(server), 0);
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  const copies = sum((server) => server.files);
  return [
    `Records   ${copies} on all disks together (${replicas} copies wanted, ${minWrite} needed), ${sum((s) => s.aliases)} alias copies`,
    `Blocks    ${blocks.total}: ${blocks.open} open, ${blocks.sealed} sealed, ${blocks.awaitingSeal} awaiting a seal, ` +
      `${blocks.underReplicated} with too few copies, ${blocks.suspect} suspect`,
    `Space     ${gib(sum((s) => s.space.usedBytes))} used, ${gib(sum((s) => s.space.freeBytes))} free on ${servers.length} mounts`,
    `Leader    NameServer ${reign.nameserver}, epoch ${reign.epoch}`,
  ].join('\n');
}
