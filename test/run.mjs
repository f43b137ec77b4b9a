// Runs every *.test.ts below test/, one process a file, and ends with the line "N passed, N failed".
// usage: node test/run.mjs [-j PROCESSES] [-t SECONDS_A_FILE] [path-part ...]
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, relative } from 'node:path';

const root = join(import.meta.dirname, '..');
// Much of it waits for processes and clocks: one more than there are cores, but no more than four.
let processes = Math.max(2, Math.min(4, cpus().length + 1));
let secondsMax = 240;
const wanted = [];
const args = process.argv.slice(2);
while (args.length > 0) {
  const arg = args.shift();
  if (arg === '-j') processes = Number(args.shift());
  else if (arg === '-t') secondsMax = Number(args.shift());
  else wanted.push(arg);
}
const files = readdirSync(join(root, 'test'), { recursive: true })
  .filter((file) => file.endsWith('.test.ts'))
  .map((file) => join('test', file))
  .filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part)))
  // The long ones, which wait more than they work, start first, so that they do not run alone at the end.
  .sort((a, b) => Number(isLong(b)) - Number(isLong(a)) || a.localeCompare(b));

function isBusy(file) {
  return /[/](sim|crash)[/]/.test(file);
}

function isLong(file) {
  return /[/](e2e[/]|tools[/](reload|start|doctor))/.test(file);
}

let passed = 0;
let failed = 0;
let skipped = 0;

function runFile(file) {
  return new Promise((resolve) => {
    const startedMs = Date.now();
    // Whole clusters in one process make garbage that lives for a moment: fewer collections, a tenth less time.
    const flags = isBusy(file) ? ['--max-semi-space-size=64'] : [];
    const child = spawn(process.execPath, [...flags, '--import', 'tsx', file], {
      cwd: root,
      detached: true,
      env: { ...process.env, FORCE_COLOR: '0' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (data) => {
      output += data;
    });
    child.stderr.on('data', (data) => {
      output += data;
    });
    let expired = false;
    const timer = setTimeout(() => {
      expired = true;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // The group ended by itself between the timer and the signal.
      }
    }, secondsMax * 1000);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const totals = [...output.matchAll(/Total:\s+(\d+)/g)].map((match) => Number(match[1]));
      const passes = [...output.matchAll(/Passed:\s+(\d+)/g)].map((match) => Number(match[1]));
      const total = totals.reduce((sum, n) => sum + n, 0);
      const good = passes.reduce((sum, n) => sum + n, 0);
      const skips = [...output.matchAll(/^SKIPPED .*$/gm)].length;
      const skipsAll = total === 0 && code === 0 && /^SKIPPED/m.test(output);
      let why = '';
      if (expired)
        why = `longer than ${secondsMax} s${total > 0 && good === total ? ' (an open handle?)' : ''}`;
      else if (code !== 0) why = `exit ${code ?? signal}`;
      else if (total === 0 && !skipsAll) why = 'no test ran';
      passed += good;
      skipped += skips;
      failed += total - good;
      if (why && total === good) failed++;
      const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
      if (why) console.log(`not ok ${relative('test', file)}: ${why} (${seconds} s)\n${output}`);
      else
        console.log(
          `ok ${relative('test', file)} (${good} tests${skips ? `, ${skips} skipped` : ''}, ${seconds} s)`,
        );
      for (const line of output.match(/^(SKIPPED|FIGURE) .*$/gm) ?? []) console.log(`   ${line}`);
      resolve();
    });
  });
}

// One process is for those that compute all the time, from the beginning on: beside them the others wait.
const busy = files.filter(isBusy);
const waiting = files.filter((file) => !isBusy(file));
await Promise.all(
  Array.from({ length: processes }, async (_, i) => {
    const lists = i === 0 ? [busy, waiting] : [waiting, busy];
    for (const list of lists) while (list.length > 0) await runFile(list.shift());
  }),
);
if (files.length === 0) {
  console.log(`no test file matches ${wanted.join(' ')}`);
  failed++;
}
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
