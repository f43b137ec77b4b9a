import { closeSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const LOWEST = 10_000;
const HIGHEST = 30_000;
/** Ports are handed out in runs of this many: claims stay few, and two tests never share a run. */
const RUN = 50;

/**
 * A base with `count` free TCP ports from it on, on the loopback address, below the range the kernel hands out.
 * They stay this process's until it ends: a test that is told of a port and listens there only seconds later (a
 * cluster that is configured, started, killed and started again) finds it free, whatever the tests beside it do.
 */
export async function freePorts(count: number): Promise<number> {
  const runs = Math.ceil(count / RUN);
  const places = Math.floor((below() - LOWEST) / RUN) - runs + 1;
  const first = Math.floor(Math.random() * places);
  for (let i = 0; i < places; i++) {
    const run = (first + i) % places;
    if (!claimAll(run, runs)) continue;
    const base = LOWEST + run * RUN;
    if (await allFree(base, count)) return base;
    // Something that is no test's has one of them: the claim stays, so that nobody tries it again.
  }
  throw new Error(`no ${count} free ports in a row`);
}

/** The kernel's own range starts here at the latest: what it hands out to clients is not free for long. */
function below(): number {
  try {
    const kernels = Number(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split(/\s+/)[0]);
    return kernels >= LOWEST + 4000 ? Math.min(HIGHEST, kernels) : HIGHEST;
  } catch {
    return HIGHEST;
  }
}

const claims = join(tmpdir(), `tfs-test-ports-${process.getuid?.() ?? 0}`);
const mine = new Set<string>();
process.once('exit', () => {
  for (const path of mine) rmSync(path, { force: true });
});

function claimAll(run: number, runs: number): boolean {
  mkdirSync(claims, { recursive: true });
  for (let i = 0; i < runs; i++) if (!claim(join(claims, `${LOWEST + (run + i) * RUN}`))) return false;
  return true;
}

/** Creating the file is the claim, as only one process can; one whose process is gone may be taken over once. */
function claim(path: string): boolean {
  try {
    const file = openSync(path, 'wx');
    writeSync(file, String(process.pid));
    closeSync(file);
    mine.add(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  if (isAbandoned(path)) rmSync(path, { force: true });
  return false;
}

function isAbandoned(path: string): boolean {
  try {
    // Two that find it abandoned at once could remove each other's new claim: only one that is old is looked at.
    if (Date.now() - statSync(path).mtimeMs < 10_000) return false;
    process.kill(Number(readFileSync(path, 'utf8')), 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

async function allFree(base: number, count: number): Promise<boolean> {
  for (let port = base; port < base + count; port++) if (!(await isFree(port))) return false;
  return true;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
