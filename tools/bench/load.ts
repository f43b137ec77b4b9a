import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Pool } from 'undici';
import { luaPicture, pictureOf } from './picture.ts';

/** What to ask of a server at `http://127.0.0.1:port`. */
export interface Load {
  readonly port: number;
  readonly clients: number;
  readonly seconds: number;
  readonly ask: Get | Post;
  /** For the script that wrk is given. */
  readonly directory: string;
}

/** One of these paths at a time, in turn. */
export interface Get {
  readonly method: 'GET';
  readonly paths: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Post {
  readonly method: 'POST';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly size: number;
  /** Bodies are numbered from here; no two loads of a run may share numbers, or they are duplicates. */
  readonly first: number;
  /** How many different bodies; without it each one is new. */
  readonly different?: number;
}

export interface LoadResult {
  readonly perSecond: number;
  readonly count: number;
  /** Answers other than 2xx and 3xx, and connections that failed. */
  readonly errors: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

let wrk: Promise<boolean> | undefined;

/** Whether wrk makes the load; otherwise undici does, which takes more CPU from the servers it shares a machine with. */
export function hasWrk(): Promise<boolean> {
  wrk ??= promisify(execFile)('wrk', ['--version']).then(
    () => true,
    // wrk exits with 1 after printing its version.
    (error: NodeJS.ErrnoException) => error.code !== 'ENOENT',
  );
  return wrk;
}

export async function runLoad(load: Load): Promise<LoadResult> {
  return (await hasWrk()) ? runWrk(load) : runUndici(load);
}

async function runWrk(load: Load): Promise<LoadResult> {
  const script = join(load.directory, 'load.lua');
  writeFileSync(script, luaScript(load.ask));
  const { stdout } = await promisify(execFile)(
    'wrk',
    [
      ...['-t', '1', '-c', String(load.clients), '-d', `${load.seconds}s`, '--timeout', '20s'],
      ...['-s', script, `http://127.0.0.1:${load.port}`],
    ],
    { maxBuffer: 1 << 20 },
  );
  const line = /^RESULT (.*)$/m.exec(stdout)?.[1];
  if (line === undefined) throw new Error(`wrk said:\n${stdout}`);
  const [count, micros, errors, ...latency] = line.split(' ').map(Number) as [number, number, number];
  const [p50, p90, p99, max] = latency.map((us) => (us as number) / 1000) as [number, number, number, number];
  return {
    perSecond: count / (micros / 1e6),
    count,
    errors,
    p50Ms: p50,
    p90Ms: p90,
    p99Ms: p99,
    maxMs: max,
  };
}

const LUA_DONE = `
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
`;

function luaScript(ask: Get | Post): string {
  if (ask.method === 'GET') {
    const paths = ask.paths.map((path) => JSON.stringify(path)).join(',\n');
    return `
local paths = {${paths}}
local requests = {}
local n = 0
init = function(args)
  for i, path in ipairs(paths) do requests[i] = wrk.format("GET", path, {${luaHeaders(ask.headers ?? {})}}) end
end
request = function()
  n = n + 1
  if n > #requests then n = 1 end
  return requests[n]
end
${LUA_DONE}`;
  }
  const picture = luaPicture(ask.size);
  const wrap =
    ask.different === undefined ? '' : `if n >= ${ask.first + ask.different} then n = ${ask.first} end`;
  return `
${picture.setup}
local headers = {${luaHeaders(ask.headers)}}
local n = ${ask.first} - 1
request = function()
  n = n + 1
  ${wrap}
  return wrk.format("POST", ${JSON.stringify(ask.path)}, headers, ${picture.expression})
end
${LUA_DONE}`;
}

const luaHeaders = (headers: Readonly<Record<string, string>>): string =>
  Object.entries(headers)
    .map(([key, value]) => `[${JSON.stringify(key)}] = ${JSON.stringify(value)}`)
    .join(', ');

async function runUndici(load: Load): Promise<LoadResult> {
  const pool = new Pool(`http://127.0.0.1:${load.port}`, { connections: load.clients });
  const { ask } = load;
  const latencies: number[] = [];
  let [errors, turn] = [0, 0];
  const startedAt = performance.now();
  const until = startedAt + load.seconds * 1000;
  const once = async () => {
    const n = turn++;
    const options =
      ask.method === 'GET'
        ? { method: 'GET' as const, path: ask.paths[n % ask.paths.length]!, headers: ask.headers ?? {} }
        : {
            method: 'POST' as const,
            path: ask.path,
            headers: ask.headers,
            body: pictureOf(ask.first + (ask.different === undefined ? n : n % ask.different), ask.size),
          };
    const reply = await pool.request(options);
    for await (const _ of reply.body);
    if (reply.statusCode >= 400) errors++;
  };
  const client = async () => {
    for (let at = performance.now(); at < until; ) {
      await once().catch(() => errors++);
      const now = performance.now();
      latencies.push(now - at);
      at = now;
    }
  };
  await Promise.all(Array.from({ length: load.clients }, client));
  const seconds = (performance.now() - startedAt) / 1000;
  await pool.close();
  latencies.sort((a, b) => a - b);
  const percentile = (p: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * p))] ?? 0;
  return {
    perSecond: latencies.length / seconds,
    count: latencies.length,
    errors,
    p50Ms: percentile(0.5),
    p90Ms: percentile(0.9),
    p99Ms: percentile(0.99),
    maxMs: latencies.at(-1) ?? 0,
  };
}
