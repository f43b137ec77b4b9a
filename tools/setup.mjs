// Makes a checkout runnable: dependencies, compiled code, redis-server. Needs only Node and npm, says what it does, and
// does nothing where nothing is missing. `npm start` and `npm test` begin with it.
// usage: node tools/setup.mjs [--no-redis]
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, join, relative, resolve } from 'node:path';

const root = join(import.meta.dirname, '..');
const SOURCES = ['common', 'nameserver', 'dataserver', 'client', 'tools', 'types'];

function setup() {
  checkNode();
  installPackages();
  build();
  if (!process.argv.includes('--no-redis')) installRedis();
}

function checkNode() {
  const wanted = JSON.parse(read('package.json')).engines.node;
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major === 20 && minor >= 19) return;
  fail(
    `this is Node ${process.versions.node}, and ${wanted} is needed: install Node 20 (https://nodejs.org)`,
  );
}

function installPackages() {
  const lock = digest(read('package-lock.json'));
  const stamp = join(root, 'node_modules', '.tfs-lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  const installed = join(root, 'node_modules', '.package-lock.json');
  const upToDate =
    existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs;
  if (!upToDate) {
    say('installing the npm packages of package-lock.json (npm ci)');
    // Development packages too: the compiler is one of them.
    run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund'], 'is the npm registry reachable?');
  }
  writeFileSync(stamp, lock);
}

function build() {
  const stamp = join(root, 'dist', '.tfs-sources');
  const sources = digest(
    ['tsconfig.json', 'package-lock.json', ...SOURCES.flatMap(filesBelow)]
      .sort()
      .map((file) => `${file}\n${digest(read(file))}`)
      .join('\n'),
  );
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === sources) {
    // Who only compares dates then sees, too, that what a checkout wrote anew is what was compiled.
    const now = new Date();
    utimesSync(stamp, now, now);
    return;
  }
  say('compiling to dist/ (tsc)');
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  run(process.execPath, [compiler, '-p', 'tsconfig.json'], 'the errors above are in the sources');
  chmodSync(join(root, 'dist', 'tools', 'tfs.js'), 0o755);
  writeFileSync(stamp, sources);
}

/** Package manager -> how it installs a Redis server. */
const INSTALLERS = [
  ['apt-get', 'apt-get update && apt-get install -y --no-install-recommends redis-server'],
  ['dnf', 'dnf install -y redis'],
  ['yum', 'yum install -y redis'],
  ['apk', 'apk add --no-cache redis'],
  ['pacman', 'pacman -Sy --noconfirm redis'],
  ['zypper', 'zypper --non-interactive install redis'],
  ['brew', 'brew install redis'],
];

function installRedis() {
  if (process.env.REDIS_URL || process.env.REDIS_SERVER || usesOwnRedis() || onPath('redis-server')) return;
  const installer = INSTALLERS.find(([manager]) => onPath(manager));
  if (installer === undefined)
    fail(
      'redis-server is missing and no known package manager was found: install Redis 6.2 or newer, or set REDIS_URL',
    );
  const [manager, command] = installer;
  const isRoot = process.getuid?.() === 0;
  const sudo = manager === 'brew' || isRoot ? '' : 'sudo ';
  const byHand = `${sudo}sh -c '${command}'`;
  if (sudo && spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status !== 0)
    fail(
      `redis-server is missing, and installing it needs root. Run this, then try again:\n\n  ${byHand}\n\nor set REDIS_URL to a Redis of yours`,
    );
  say(`redis-server is missing; installing it (${byHand})`);
  const shell = sudo ? ['sudo', ['-n', 'sh', '-c', command]] : ['sh', ['-c', command]];
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const { status } = spawnSync(shell[0], shell[1], { stdio: ['ignore', 'inherit', 'inherit'], env });
  if (status !== 0 || !onPath('redis-server'))
    fail(
      `that did not install redis-server. Run this by hand, then try again:\n\n  ${byHand}\n\nor set REDIS_URL to a Redis of yours`,
    );
}

/** A configuration that names the operator's own Redis needs none here. */
function usesOwnRedis() {
  const file = join(resolve(process.env.TFS_HOME || '.tfs'), 'config.json');
  try {
    return JSON.parse(readFileSync(file, 'utf8')).redis?.url !== undefined;
  } catch {
    // Missing or broken: `npm start` makes it, or says what is wrong with it.
    return false;
  }
}

function filesBelow(directory) {
  return readdirSync(join(root, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

function onPath(program) {
  const directories = (process.env.PATH ?? '').split(delimiter);
  return directories.some((directory) => directory !== '' && existsSync(join(directory, program)));
}

function run(command, args, hint) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0)
    fail(`"${command} ${args.join(' ')}" in ${root} failed${error ? ` (${error.message})` : ''}: ${hint}`);
}

function read(file) {
  return readFileSync(join(root, file), 'utf8');
}

function digest(text) {
  return createHash('sha256').update(text).digest('hex');
}

function say(text) {
  process.stdout.write(`setup: ${text}\n`);
}

class Trouble extends Error {}
function fail(message) {
  throw new Trouble(message);
}

try {
  setup();
} catch (error) {
  if (!(error instanceof Trouble)) throw error;
  process.stderr.write(`\nsetup: ${error.message}\n`);
  process.exitCode = 1;
}
