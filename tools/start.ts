import { relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import { type Config, homeFromEnv } from '../common/config.ts';
import { TfsError, toTfsError } from '../common/errors.ts';
import { formatHostPort } from '../common/ids.ts';
import { tokenPath } from '../common/secrets.ts';
import { openClusterView, whyNotWritable } from './cluster/cluster-view.ts';
import { logsDir } from './cluster/home.ts';
import { clearStaleSockets, endLeftovers, findLeftovers } from './cluster/leftovers.ts';
import { lastErrors } from './cluster/log-files.ts';
import { type Pm2, pm2Of } from './cluster/pm2.ts';
import { ensureConfig, prepare, rotateLogs } from './cluster/prepare.ts';
import { listProcesses, type ProcessRow } from './cluster/processes.ts';
import { withStartLock } from './cluster/start-lock.ts';

/** `npm start`: from nothing, or from stopped, to a cluster that takes uploads. */
async function start(options: StartOptions): Promise<void> {
  const home = homeFromEnv(process.env);
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  await withStartLock(home, async () => {
    const pm2 = pm2Of(home, process.env);
    await refuseSecondStart(pm2, home);
    const leftovers = await findLeftovers(home, pm2.directory);
    if (leftovers.length > 0) {
      say(`stopping ${leftovers.length} processes that outlived their process manager`);
      await endLeftovers(leftovers, home);
    }
    await clearStaleSockets(pm2.directory);
    const first = { basePort: options.port, mounts: options.mounts };
    const config = await ensureConfig(home, process.env, first, say);
    await prepare(config, process.env, say, options.allowFull);
    await rotateLogs(config, process.env);
    say('starting …');
    // PM2 waits for each process in turn; whether uploads are taken is known before that, also when one never comes.
    await Promise.all([waitUntilWritable(config, pm2, options.waitSeconds * 1000), pm2.start()]);
    // Only now has every process had its turn: what is not up is not on its way.
    const rows = await listProcesses(config, await pm2.list(), process.env);
    say(welcome(config, rows));
  });
}

interface StartOptions {
  readonly port: number | undefined;
  readonly mounts: number | undefined;
  readonly waitSeconds: number;
  readonly allowFull: boolean;
}

async function refuseSecondStart(pm2: Pm2, home: string): Promise<void> {
  if (!(await pm2.alive())) return;
  const running = await pm2.list();
  if (running.length === 0) return pm2.kill();
  const up = running.filter((one) => one.status === 'online').length;
  throw new TfsError(
    'CONFLICT',
    `this cluster (${home}) is running already: ${up} of ${running.length} processes are online. ` +
      'See "npm run status"; apply a changed config.json with "npm run reload"; end it with "npm stop"',
  );
}

/**
 * Asks until an upload would be acknowledged and a gateway answers. A process that refused to start is reported with
 * its own words; the others go on, and so does the cluster while they are enough.
 *
 * @throws TfsError UNAVAILABLE with what is missing, and the last errors in the logs
 */
async function waitUntilWritable(config: Config, pm2: Pm2, waitMs: number): Promise<void> {
  const view = await openClusterView(config);
  const deadline = performance.now() + waitMs;
  try {
    for (;;) {
      const rows = await listProcesses(config, await pm2.list(), process.env);
      const missing = await whatIsMissing(rows, view);
      if (missing === undefined) return;
      const hopeless = rows.every((row) => row.kind !== 'dataserver' || row.state === 'refused');
      if (hopeless || performance.now() > deadline)
        throw new TfsError('UNAVAILABLE', await failure(config, rows, missing, hopeless ? 0 : waitMs));
      await sleep(200);
    }
  } finally {
    await view.close();
  }
}

async function whatIsMissing(
  rows: readonly ProcessRow[],
  view: Awaited<ReturnType<typeof openClusterView>>,
): Promise<string | undefined> {
  if (!rows.some((row) => row.kind === 'gateway' && row.healthy)) return 'no gateway answers yet';
  // All are given the time to come up or to refuse, so that the summary tells the truth.
  const undecided = rows.filter((row) => row.state === 'starting');
  if (undecided.length > 0)
    return `${undecided.map((row) => `${row.kind} ${row.id}`).join(', ')} still starting`;
  try {
    return whyNotWritable(await view.map());
  } catch (error) {
    return toTfsError(error).message;
  }
}

async function failure(
  config: Config,
  rows: readonly ProcessRow[],
  missing: string,
  waitedMs: number,
): Promise<string> {
  const down = rows.filter((row) => !row.healthy).map((row) => `  ${row.kind} ${row.id}: ${row.state}`);
  const errors = (await lastErrors(config, 5)).map((line) => `  ${line}`);
  return [
    `the cluster does not take uploads${waitedMs > 0 ? ` after ${waitedMs / 1000} s` : ''}: ${missing}.`,
    ...(down.length > 0 ? ['Not up:', ...down] : []),
    ...(errors.length > 0 ? ['Last errors:', ...errors] : []),
    `All logs: ${logsDir(config.home)} ("npm run logs"). What runs was left running: "npm stop" ends it.`,
  ].join('\n');
}

function welcome(config: Config, rows: readonly ProcessRow[]): string {
  const { gateway } = config;
  const url = gateway.publicUrl ?? `http://${formatHostPort({ ...gateway, host: reachable(gateway.host) })}`;
  const token = short(tokenPath(config.home));
  const notUp = rows.filter((row) => !row.healthy).map((row) => `${row.kind} ${row.id} is ${row.state}`);
  return `
The picture store is up: ${rows.filter((row) => row.healthy).length} of ${rows.length} processes.${
    notUp.length > 0 ? `\n  ATTENTION: ${notUp.join(', ')}. See "npm run logs".` : ''
  }

  Upload     curl -H "Authorization: Bearer $(cat ${token})" --data-binary @docs/sample.jpg ${url}/images
  Look       open the "url" of the answer in a browser
  Directory  npx tfs import DIRECTORY

  Address    ${url}
  Token      ${token}
  Pictures   ${config.mounts.map((mount) => short(mount.path)).join('  ')}
  Settings   ${short(`${config.home}/config.json`)}
  Logs       ${short(logsDir(config.home))}  (npm run logs)
  Status     npm run status
  Stop       npm stop
`;
}

const reachable = (host: string): string => (host === '0.0.0.0' || host === '::' ? 'localhost' : host);

/** As the reader would type it, from where the command was run. */
function short(path: string): string {
  const fromHere = relative(process.cwd(), path);
  const shortest = fromHere.startsWith('..') ? path : fromHere;
  return /^[\w./-]+$/.test(shortest) ? shortest : `"${shortest}"`;
}

function wholeNumber(min: number, max: number) {
  return (text: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < min || value > max)
      throw new InvalidArgumentError(`give a whole number from ${min} to ${max}`);
    return value;
  };
}

const command = new Command('npm start --')
  .description(
    'Starts the whole cluster of TFS_HOME (default .tfs) on this machine and waits until it takes uploads.',
  )
  .option(
    '--port <base>',
    'first start: port of the gateway; the others follow it',
    wholeNumber(1024, 65_400),
  )
  .option('--mounts <count>', 'first start: number of mounts (directories in TFS_HOME)', wholeNumber(1, 64))
  .option('--wait <seconds>', 'give up when it does not take uploads by then', wholeNumber(1, 3600), 60)
  .option('--allow-full', 'start on full disks too, to read and delete what is stored', false)
  .action(async (o: { port?: number; mounts?: number; wait: number; allowFull: boolean }) =>
    start({ port: o.port, mounts: o.mounts, waitSeconds: o.wait, allowFull: o.allowFull }),
  );

try {
  await command.parseAsync();
} catch (error) {
  process.stderr.write(`\nnpm start: ${toTfsError(error).message}\n`);
  process.exitCode = 1;
}
