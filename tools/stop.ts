import { homeFromEnv, loadConfig } from '../common/config.ts';
import { toTfsError } from '../common/errors.ts';
import { appsOf } from './cluster/ecosystem.ts';
import { endLeftovers, findLeftovers } from './cluster/leftovers.ts';
import { pm2Of } from './cluster/pm2.ts';
import { withStartLock } from './cluster/start-lock.ts';

/**
 * `npm stop`: first what takes uploads, then what stores them, then what knows where they are, so that nobody calls
 * what is gone already. Stopping what does not run is no error.
 */
async function stop(): Promise<void> {
  const home = homeFromEnv(process.env);
  const config = await loadConfig(home);
  await withStartLock(home, async () => {
    const pm2 = pm2Of(home, process.env);
    const alive = await pm2.alive();
    if (alive) {
      const running = new Set((await pm2.list()).map(({ name }) => name));
      // Apps are listed with what others need first. A process of a mount that left config.json goes with the rest.
      const order = ['gateway', 'dataserver', 'nameserver', 'redis'];
      const known = appsOf(config, process.env).map(({ name }) => name);
      for (const kind of order) {
        const names = [...new Set([...known, ...running])].filter(
          (name) => running.has(name) && name.startsWith(kind),
        );
        await pm2.stop(names);
      }
      await pm2.kill();
    }
    const leftovers = await findLeftovers(home, pm2.directory);
    await endLeftovers(leftovers, home);
    const stopped = alive || leftovers.length > 0;
    process.stdout.write(stopped ? `stopped the cluster of ${home}\n` : `nothing of ${home} was running\n`);
  });
}

try {
  await stop();
} catch (error) {
  process.stderr.write(`npm stop: ${toTfsError(error).message}\n`);
  process.exitCode = 1;
}
