// Starts a compiled tool: node tools/run.mjs stop|status|logs|reload|... [arguments]
// Without compiled code there is nothing that could be running.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [name = '', ...args] = process.argv.slice(2);
const direct = join(import.meta.dirname, '..', 'dist', 'tools', `${name}.js`);
const cli = join(import.meta.dirname, '..', 'dist', 'tools', 'tfs.js');
if (existsSync(direct)) {
  process.argv = [process.argv[0], direct, ...args];
  await import(pathToFileURL(direct).href);
} else if (existsSync(cli)) {
  process.argv = [process.argv[0], cli, name, ...args];
  await import(pathToFileURL(cli).href);
} else {
  process.stderr.write('nothing is compiled yet, so nothing is running here: start with "npm start"\n');
  process.exitCode = 1;
}
