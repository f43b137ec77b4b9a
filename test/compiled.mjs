// Compiles everything to dist-test/ and runs a module of it. tsx, which `npm test` uses, gives every inner function its name
// anew with each call: what runs for an hour runs a sixth faster without.
// usage: node test/compiled.mjs test/sim/soak.ts [options of it]
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const [file = '', ...args] = process.argv.slice(2);
const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
const options = ['-p', 'tsconfig.test.json', '--noEmit', 'false', '--outDir', 'dist-test'];
const compiled = spawnSync(process.execPath, [tsc, ...options], { cwd: root, stdio: 'inherit' });
if (compiled.status !== 0) process.exit(1);

const child = spawn(process.execPath, [join(root, 'dist-test', file.replace(/\.ts$/, '.js')), ...args], {
  stdio: 'inherit',
});
// The terminal sends its own to the whole group; a service manager to this one only.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.on('close', (code, signal) => {
  process.exitCode = signal === null ? code : 1;
});
