import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from 'undici';
import type { HostPort } from '../../common/ids.ts';
import { freePorts } from './ports.ts';
import { ROOT } from './run-from.ts';
import type { TestContext } from './suite.ts';
import { tempDir } from './temp-dir.ts';

const SHOWN = join(ROOT, 'docs', 'front-ends');
const UP_MS_MAX = 30_000;
const ANSWER_MS_MAX = 30_000;

/** Running now. A test that ends by an error must not leave a cache behind. */
const children = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of children) child.kill('SIGTERM');
});

export interface FrontAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

export interface FrontOptions {
  /** Where the example has its two. */
  readonly origins: readonly [HostPort, HostPort];
  /** A free one when absent. */
  readonly port?: number;
  /** What nginx remembers purges in; as the example says when absent. */
  readonly dictionary?: string;
  /** After how long it forgets them, and looks after that: seconds; as the example says when absent. */
  readonly forgets?: { readonly afterS: number; readonly everyS: number };
}

/**
 * A cache in front, run by the configuration that docs/front-ends shows, with other ports and directories and nothing
 * else changed: real nginx or real Varnish, with nothing of the system's own configuration.
 */
export class Front {
  readonly port: number;
  readonly #directory: string;
  readonly #command: readonly string[];
  #child: ChildProcess | undefined;

  private constructor(port: number, directory: string, command: readonly string[]) {
    this.port = port;
    this.#directory = directory;
    this.#command = command;
  }

  /** @param file `nginx.conf` or `nginx-edge.conf` */
  static async nginx(
    t: TestContext,
    file: string,
    { origins, port, dictionary = '64m', forgets }: FrontOptions,
  ): Promise<Front> {
    const own = port ?? (await freePorts(1));
    const directory = tempDir(t, 'tfs-nginx-');
    // Its workers are somebody else when it is started by root.
    chmodSync(directory, 0o777);
    for (const part of ['tfs-images.conf', 'tfs-cache.lua'])
      copyFileSync(join(SHOWN, part), join(directory, part));
    const [first, second] = file === 'nginx.conf' ? ['7500', '7502'] : ['8081', '8082'];
    const changed = replaced(readFileSync(join(SHOWN, file), 'utf8'), [
      ['user www-data;', ''],
      ['/run/nginx.pid', join(directory, 'pid')],
      ['/var/log/nginx/', `${directory}/`],
      ['/var/cache/nginx/tfs', join(directory, 'cache')],
      ['/var/lib/nginx/tfs-purges', join(directory, 'purges')],
      ['"/etc/nginx/', `"${directory}/`],
      ['tfs_purges 64m;', `tfs_purges ${dictionary};`],
      ...(forgets === undefined
        ? []
        : ([['2 * 7 * 24 * 3600', `${forgets.afterS}, shorten_s = ${forgets.everyS}`]] as const)),
      ['listen 80;', `listen 127.0.0.1:${own};`],
      [`127.0.0.1:${first} `, `${textOf(origins[0])} `],
      [`127.0.0.1:${second} `, `${textOf(origins[1])} `],
    ]);
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((kind) => `${kind}_temp_path ${directory}/${kind};`)
      .join(' ');
    const config = join(directory, 'nginx.conf');
    writeFileSync(config, replaced(changed, [['http {', `http { ${temporary}`]]));
    const arguments_ = [
      '-p',
      directory,
      '-c',
      config,
      '-g',
      'daemon off;',
      '-e',
      join(directory, 'error.log'),
    ];
    return Front.#start(t, new Front(own, directory, ['/usr/sbin/nginx', ...arguments_]));
  }

  static async varnish(t: TestContext, { origins, port }: FrontOptions): Promise<Front> {
    const own = port ?? (await freePorts(1));
    const directory = tempDir(t, 'tfs-varnish-');
    const vcl = join(directory, 'tfs.vcl');
    const [first, second] = origins;
    writeFileSync(
      vcl,
      replaced(readFileSync(join(SHOWN, 'varnish.vcl'), 'utf8'), [
        ['.port = "7500"', `.port = "${first.port}"`],
        ['.port = "7502"', `.port = "${second.port}"`],
      ]),
    );
    mkdirSync(join(directory, 'work'));
    const at = ['-a', `127.0.0.1:${own}`, '-f', vcl, '-n', join(directory, 'work')];
    const arguments_ = ['-F', '-j', 'none', ...at, '-s', 'malloc,64m', '-p', 'thread_pool_min=20'];
    return Front.#start(t, new Front(own, directory, ['/usr/sbin/varnishd', ...arguments_]));
  }

  static async #start(t: TestContext, front: Front): Promise<Front> {
    t.defer(() => front.stop());
    await front.start();
    return front;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get address(): HostPort {
    return { host: '127.0.0.1', port: this.port };
  }

  get log(): string {
    return readFileSync(join(this.#directory, 'output'), 'utf8');
  }

  /** What nginx has noted of purges. */
  get journal(): string {
    return readFileSync(join(this.#directory, 'purges'), 'utf8');
  }

  get journalPath(): string {
    return join(this.#directory, 'purges');
  }

  /** Where nginx keeps what it keeps. */
  get cacheDirectory(): string {
    return join(this.#directory, 'cache');
  }

  /** Resolves when it takes connections. */
  async start(): Promise<void> {
    const output = openSync(join(this.#directory, 'output'), 'a');
    const [program, ...args] = this.#command;
    const child = spawn(program!, args, { cwd: this.#directory, stdio: ['ignore', output, output] });
    children.add(child);
    child.once('exit', () => children.delete(child));
    this.#child = child;
    const untilMs = performance.now() + UP_MS_MAX;
    while (!(await isListening(this.address))) {
      if (child.exitCode !== null || performance.now() > untilMs)
        throw new Error(`${program} does not listen on ${this.port}: ${this.log}`);
      await sleep(20);
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#child!.kill(signal);
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  }

  get(path: string, headers: Record<string, string | string[]> = {}): Promise<FrontAnswer> {
    return ask(`${this.url}/images/${path}`, 'GET', headers);
  }

  /** @param name 18 characters */
  async purge(name: string): Promise<number> {
    const answer = await ask(`${this.url}/images/${name}`, 'PURGE', {
      'surrogate-key': name,
      'cache-tag': name,
    });
    return answer.status;
  }
}

export async function ask(
  url: string,
  method: string,
  headers: Record<string, string | string[]>,
  body?: Buffer,
): Promise<FrontAnswer> {
  const reply = await request(url, {
    method: method as 'GET',
    headers: body === undefined ? headers : { 'content-type': 'application/octet-stream', ...headers },
    ...(body === undefined ? {} : { body }),
    headersTimeout: ANSWER_MS_MAX,
    bodyTimeout: ANSWER_MS_MAX,
  });
  return {
    status: reply.statusCode,
    headers: reply.headers,
    body: Buffer.from(await reply.body.arrayBuffer()),
  };
}

/** Each of them at least once, or the example has changed and the test with it. */
function replaced(text: string, changes: readonly (readonly [from: string, to: string])[]): string {
  let result = text;
  for (const [from, to] of changes) {
    if (!result.includes(from)) throw new Error(`the example does not say ${JSON.stringify(from)} any more`);
    result = result.replaceAll(from, to);
  }
  return result;
}

const textOf = ({ host, port }: HostPort): string => `${host}:${port}`;

function isListening({ host, port }: HostPort): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const settle = (yes: boolean) => {
      socket.destroy();
      resolve(yes);
    };
    socket.once('connect', () => settle(true));
    socket.once('error', () => settle(false));
  });
}
