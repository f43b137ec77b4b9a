import { Command } from 'commander';
import { homeFromEnv, loadConfig } from '../common/config.ts';
import { TfsError, toTfsError } from '../common/errors.ts';
import { appsOf } from './cluster/ecosystem.ts';
import { endLeftovers, findLeftovers } from './cluster/leftovers.ts';
import { type Pm2, pm2Of } from './cluster/pm2.ts';
import { withStartLock } from './cluster/start-lock.ts';

/**
 * First what takes uploads, then what stores them, then what knows where they are, so that nobody calls what is gone
 * already, and DataServers find a leader who seals what was being written on them.
 */
const ORDER = ['gateway', 'dataserver', 'nameserver', 'redis'];

/**
 * `npm stop`. Stopping what does not run is no error.
 *
 * @param words only processes whose name contains one of them; all, and PM2, without words
 */
async function stop(words: readonly string[]): Promise<void> {
  const home = homeFromEnv(process.env);
  const config = await loadConfig(home);
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  await withStartLock(home, async () => {
    const pm2 = pm2Of(home, process.env);
    const alive = await pm2.alive();
    const known = appsOf(config, process.env).map(({ name }) => name);
    if (words.length > 0) {
      const stopped = alive ? await stopThose(pm2, known, words) : [];
      say(stopped.length > 0 ? `stopped ${stopped.join(', ')}` : 'nothing of that was running');
      return;
    }
    if (alive) {
      await stopThose(pm2, known, ['']);
      await pm2.kill();
    }
    const leftovers = await findLeftovers(home, pm2.directory);
    await endLeftovers(leftovers, home);
    const isDone = alive || leftovers.length > 0;
    say(isDone ? `stopped the cluster of ${home}` : `nothing of ${home} was running`);
  });
}

/** @returns their names @throws TfsError BAD_REQUEST when no process is called so */
async function stopThose(pm2: Pm2, known: readonly string[], words: readonly string[]): Promise<string[]> {
  const managed = await pm2.list();
  // A process of a mount that left config.json goes with the rest.
  const all = [...new Set([...known, ...managed.map(({ name }) => name)])];
  const chosen = all.filter((name) => words.some((word) => name.includes(word)));
  if (chosen.length === 0)
    throw new TfsError(
      'BAD_REQUEST',
      `no process is called ${words.join(', ')}: there are ${all.join(', ')}`,
    );
  const listed = new Set(managed.map(({ name }) => name));
  for (const kind of ORDER)
    await pm2.stop(chosen.filter((name) => listed.has(name) && name.startsWith(kind)));
  const wasUp = new Set(managed.filter(({ pid }) => pid !== 0).map(({ name }) => name));
  return chosen.filter((name) => wasUp.has(name));
}

const command = new Command('npm stop --')
  .description('Stops the cluster of TFS_HOME (default .tfs) in an order in which nothing is left half done.')
  .argument('[names...]', 'only processes whose name contains one of these, such as dataserver-2')
  .action(stop);

try {
  await command.parseAsync();
} catch (error) {
  process.stderr.write(`npm stop: ${toTfsError(error).message}\n`);
  process.exitCode = 1;
}
