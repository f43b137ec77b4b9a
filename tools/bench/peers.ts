import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchContext } from './bench.ts';
import { Child, nodeArgs, sibling } from './child.ts';
import { freePorts } from './ports.ts';

/** Something to run beside the product; its processes are stopped when the benchmark ends. */
export interface Peer {
  readonly name: string;
  readonly port: number;
  readonly processes: readonly Child[];
  stop(): Promise<void>;
}

/** nginx with one worker, serving `files` from a directory. @returns undefined where it is not installed */
export async function startNginx(
  context: BenchContext,
  files: ReadonlyMap<string, Buffer>,
): Promise<Peer | undefined> {
  const program = [
    '/usr/sbin/nginx',
    '/usr/local/sbin/nginx',
    '/usr/bin/nginx',
    '/opt/homebrew/bin/nginx',
  ].find(existsSync);
  if (program === undefined) return skip(context, 'nginx is not installed');
  const home = join(context.directory, 'nginx');
  const root = join(home, 'root');
  mkdirSync(root, { recursive: true });
  for (const [name, body] of files) writeFileSync(join(root, name), body);
  const port = await freePorts(1);
  writeFileSync(
    join(home, 'nginx.conf'),
    `daemon off; master_process off; worker_processes 1; pid ${home}/pid; error_log ${home}/error.log;
events { worker_connections 1024; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${home}/${kind};`).join(' ')}
  types { image/jpeg jpg; } default_type image/jpeg;
  server { listen 127.0.0.1:${port}; root ${root}; }
}
`,
  );
  const args = ['-p', home, '-c', join(home, 'nginx.conf')];
  if (spawnSync(program, ['-t', ...args]).status !== 0)
    return skip(context, 'nginx does not take the configuration');
  // nginx reads SIGQUIT as "finish and end".
  const child = await Child.start({
    name: 'nginx',
    command: program,
    args,
    directory: context.directory,
    port,
    stopSignal: 'SIGQUIT',
  });
  return peer(context, 'nginx static', port, [child]);
}

export async function startHttp(context: BenchContext, size: number): Promise<Peer> {
  const port = await freePorts(1);
  const child = await Child.start({
    name: 'http-peer',
    command: process.execPath,
    args: [...nodeArgs(sibling(import.meta, 'http-peer')), String(port), String(size)],
    cwd: process.cwd(),
    directory: context.directory,
  });
  return peer(context, 'node:http', port, [child]);
}

/**
 * The bare upper bound: three storage processes and a gateway. Its script takes `ds PORT FILE [peer ports]` and
 * `gw PORT DS_PORT`; POST stores a body on all three, GET reads 10 KB from the first one.
 *
 * @param grow into files that grow, instead of one that was filled with zeros before
 */
export async function startYardstick(context: BenchContext, grow: boolean): Promise<Peer | undefined> {
  const script = context.yardstick;
  if (script === undefined) return undefined;
  if (!existsSync(script)) return skip(context, `there is no yardstick at ${script}`);
  const base = await freePorts(4);
  const [gateway, ...stores] = [base, base + 1, base + 2, base + 3] as [number, number, number, number];
  const start = (name: string, port: number, args: (string | number)[]) =>
    Child.start({
      name: `yardstick-${name}${grow ? '-grow' : ''}`,
      command: process.execPath,
      args: [script, ...args.map(String)],
      env: grow ? { GROW: '1' } : {},
      directory: context.directory,
      port,
    });
  const file = (n: number) => join(context.directory, `yardstick${grow ? '-grow' : ''}-${n}`);
  const second = await start('ds2', stores[1]!, ['ds', stores[1]!, file(2)]);
  const third = await start('ds3', stores[2]!, ['ds', stores[2]!, file(3)]);
  const first = await start('ds1', stores[0]!, ['ds', stores[0]!, file(1), stores[1]!, stores[2]!]);
  const front = await start('gw', gateway, ['gw', gateway, stores[0]!]);
  return peer(context, grow ? 'yardstick, growing files' : 'yardstick', gateway, [
    front,
    first,
    second,
    third,
  ]);
}

function peer(context: BenchContext, name: string, port: number, processes: readonly Child[]): Peer {
  const stop = async () => {
    await Promise.all(processes.map((process) => process.stop()));
  };
  context.defer(stop);
  return { name, port, processes, stop };
}

function skip(context: BenchContext, why: string): undefined {
  context.say(`${why}: left out`);
  return undefined;
}
