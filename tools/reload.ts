import { setTimeout as sleep } from 'node:timers/promises';
import { type Config, homeFromEnv, loadConfig } from '../common/config.ts';
import { TfsError, toTfsError } from '../common/errors.ts';
import { openClusterView, whyNotWritable } from './cluster/cluster-view.ts';
import { appsOf } from './cluster/ecosystem.ts';
import { type Pm2, pm2Of } from './cluster/pm2.ts';
import { prepare } from './cluster/prepare.ts';
import { listProcesses } from './cluster/processes.ts';
import { withStartLock } from './cluster/start-lock.ts';

const STEP_MS_MAX = 60_000;

/**
 * `npm run reload`: takes up a changed config.json or newly built code, one process after the other. The next one is
 * touched only when the last one serves again and the cluster takes uploads.
 */
async function reload(): Promise<void> {
  const home = homeFromEnv(process.env);
  const config = await loadConfig(home);
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  await withStartLock(home, async () => {
    const pm2 = pm2Of(home, process.env);
    if (!(await pm2.alive()))
      throw new TfsError('UNAVAILABLE', 'nothing is running: start it with "npm start"');
    await prepare(config, process.env, say, true);
    const view = await openClusterView(config);
    try {
      for (const { name } of appsOf(config, process.env)) {
        // Holds nothing of its own to renew, and everything would lose its connection.
        if (name === 'redis') continue;
        say(`reloading ${name} …`);
        await pm2.reload(name);
        await settled(config, pm2, name, async () => whyNotWritable(await view.map()));
      }
    } finally {
      await view.close();
    }
    await endRemoved(config, pm2, say);
    say('reloaded');
  });
}

async function settled(
  config: Config,
  pm2: Pm2,
  name: string,
  whyNot: () => Promise<string | undefined>,
): Promise<void> {
  const deadline = performance.now() + STEP_MS_MAX;
  for (;;) {
    const rows = await listProcesses(config, await pm2.list(), process.env);
    const mine = rows.filter((row) => name === row.kind || name === `${row.kind}-${row.id}`);
    let reason = mine.every((row) => row.healthy)
      ? undefined
      : `${name} is ${mine.map((row) => row.state).join(', ')}`;
    reason ??= await whyNot().catch((error: unknown) => toTfsError(error).message);
    if (reason === undefined) return;
    if (performance.now() > deadline)
      throw new TfsError(
        'UNAVAILABLE',
        `stopped reloading at ${name}: ${reason}. The rest still runs as before; see "npm run logs"`,
      );
    await sleep(200);
  }
}

/** Stops processes that the configuration no longer names. Their mounts keep their pictures. */
async function endRemoved(config: Config, pm2: Pm2, say: (line: string) => void): Promise<void> {
  const wanted = new Set(appsOf(config, process.env).map(({ name }) => name));
  const extra = (await pm2.list()).map(({ name }) => name).filter((name) => !wanted.has(name));
  if (extra.length === 0) return;
  say(`stopping ${extra.join(', ')}: no longer in the configuration`);
  await pm2.stop(extra);
}

try {
  await reload();
} catch (error) {
  process.stderr.write(`npm run reload: ${toTfsError(error).message}\n`);
  process.exitCode = 1;
}
