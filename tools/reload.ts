import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { type Config, homeFromEnv, loadConfig } from '../common/config.ts';
import { TfsError, toTfsError } from '../common/errors.ts';
import { type ClusterView, mapOf, openClusterView } from './cluster/cluster-view.ts';
import { appsOf } from './cluster/ecosystem.ts';
import { type Pm2, type Pm2Process, pm2Of } from './cluster/pm2.ts';
import { prepare } from './cluster/prepare.ts';
import { listProcesses } from './cluster/processes.ts';
import { isOf, type Snapshot, whyNotBegun, whyNotSettled } from './cluster/settled.ts';
import { withStartLock } from './cluster/start-lock.ts';

/** A DataServer with many blocks, and a leader that has to count millions of them. */
const STEP_MS_MAX = 120_000;
const LOOK_MS = 200;
/** Asking PM2 costs a process. */
const LOOK_AT_PM2_MS = 2_000;

/**
 * `npm run reload`: takes up a changed config.json or newly built code, one process after the other. The next one is
 * touched only when the last one serves again and no block has fewer good copies than before.
 *
 * Where a DataServer is down already no other one is touched, unless `force` is given.
 *
 * @param words only processes whose name contains one of them; all but Redis without words
 */
async function reload(words: readonly string[], { force }: { readonly force: boolean }): Promise<void> {
  const home = homeFromEnv(process.env);
  const config = await loadConfig(home);
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  await withStartLock(home, async () => {
    const pm2 = pm2Of(home, process.env);
    if (!(await pm2.alive()))
      throw new TfsError('UNAVAILABLE', 'nothing is running: start it with "npm start"');
    await prepare(config, process.env, say, true);
    const view = await openClusterView(config);
    const cluster: Cluster = { config, pm2, view, force };
    const startedAt = performance.now();
    try {
      for (const name of await order(cluster, words)) {
        say(`reloading ${name} …`);
        await replace(cluster, name, say);
      }
    } finally {
      await view.close();
    }
    if (words.length === 0) await endRemoved(config, pm2, say);
    say(`reloaded in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
  });
}

interface Cluster {
  readonly config: Config;
  readonly pm2: Pm2;
  readonly view: ClusterView;
  readonly force: boolean;
}

/**
 * What does not run comes first: a NameServer that reads of a new DataServer waits for it. Then the NameServers, the one
 * that does not lead before the one that does, which hands over to it as it stops; then the DataServers; the gateways at
 * last, so that they never meet a server that is older than they are.
 */
async function order({ config, pm2, view }: Cluster, words: readonly string[]): Promise<string[]> {
  const map = mapOf(await view.nameservers());
  const leading = map?.leader ? `nameserver-${map.reign.nameserver}` : '';
  const names = appsOf(config, process.env).map(({ name }) => name);
  const running = new Set((await pm2.list()).filter(({ pid }) => pid !== 0).map(({ name }) => name));
  const kinds = ['redis', 'nameserver', 'dataserver', 'gateway'];
  const rank = (name: string) =>
    kinds.findIndex((kind) => name.startsWith(kind)) +
    (name === leading ? 0.5 : 0) +
    (running.has(name) ? kinds.length : 0);
  const chosen = names.filter((name) => {
    if (words.length > 0) return words.some((word) => name.includes(word));
    // Redis holds nothing of its own to renew, and everything would lose its connection.
    return name !== 'redis' || !running.has(name);
  });
  if (chosen.length === 0)
    throw new TfsError(
      'BAD_REQUEST',
      `no process is called ${words.join(', ')}: there are ${names.join(', ')}`,
    );
  return chosen.sort((a, b) => rank(a) - rank(b));
}

/** @throws TfsError UNAVAILABLE when it does not come back as it should */
async function replace(cluster: Cluster, name: string, say: (line: string) => void): Promise<void> {
  const { pm2, force } = cluster;
  const before = await look(cluster, []);
  const why = force ? undefined : whyNotBegun(name, before);
  if (why !== undefined)
    throw new TfsError(
      'UNAVAILABLE',
      `${name} is left as it is, because ${why}: without it pictures could not be stored or read. See "npx tfs ` +
        'doctor"; to do it all the same: npm run reload -- --force',
    );
  await pm2.reload(name);
  const deadline = performance.now() + STEP_MS_MAX;
  let managed: Pm2Process[] = [];
  let askedAt = performance.now();
  let healthyAt: number | undefined;
  let told = '';
  for (;;) {
    const at = performance.now();
    if (at - askedAt > LOOK_AT_PM2_MS) {
      managed = await pm2.list();
      askedAt = performance.now();
    }
    const now = await look(cluster, managed);
    const isHealthy = now.processes.every((row) => !isOf(name, row) || row.healthy);
    if (!isHealthy) healthyAt = undefined;
    else healthyAt ??= performance.now();
    const healthyForMs = healthyAt === undefined ? undefined : at - healthyAt;
    const reason =
      name === 'redis' && isHealthy ? undefined : whyNotSettled({ name, before, now, healthyForMs });
    if (reason === undefined) return;
    const refused = now.processes.find((row) => isOf(name, row) && row.state === 'refused');
    if (at > deadline || refused !== undefined)
      throw new TfsError(
        'UNAVAILABLE',
        `stopped reloading at ${name}: ${reason}. What was not reloaded runs as before. See "npx tfs doctor" and ` +
          `"npm run logs -- ${name}"; go on with "npm run reload" when it is well`,
      );
    if (at - deadline + STEP_MS_MAX > 3_000 && reason !== told) say(`  ${reason} …`);
    told = reason;
    await sleep(LOOK_MS);
  }
}

async function look({ config, view }: Cluster, managed: readonly Pm2Process[]): Promise<Snapshot> {
  const [nameservers, processes] = await Promise.all([
    view.nameservers(),
    listProcesses(config, managed, process.env),
  ]);
  return { nameservers, processes };
}

/** Stops processes that the configuration no longer names. Their mounts keep their pictures. */
async function endRemoved(config: Config, pm2: Pm2, say: (line: string) => void): Promise<void> {
  const wanted = new Set(appsOf(config, process.env).map(({ name }) => name));
  const extra = (await pm2.list()).map(({ name }) => name).filter((name) => !wanted.has(name));
  if (extra.length === 0) return;
  say(`stopping ${extra.join(', ')}: no longer in the configuration`);
  await pm2.stop(extra);
}

const command = new Command('npm run reload --')
  .description(
    'Replaces the processes of TFS_HOME (default .tfs) one by one, taking up config.json and the code as they are now, ' +
      'while the cluster goes on serving.',
  )
  .argument('[names...]', 'only processes whose name contains one of these, such as dataserver-2')
  .option('--force', 'also where a DataServer is missed by then: uploads and some pictures may be 503', false)
  .action(reload);

try {
  await command.parseAsync();
} catch (error) {
  process.stderr.write(`npm run reload: ${toTfsError(error).message}\n`);
  process.exitCode = 1;
}
