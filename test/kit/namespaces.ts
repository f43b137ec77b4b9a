import { execFile, spawn } from 'node:child_process';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Which packets one host does not get: those of these other hosts. */
export interface Cut {
  readonly from: string;
  readonly to: string;
}

/** The local table is looked up after the cuts. */
const CUT_RULE = 10;
const LOCAL_RULE = 100;
const INNER = 'e0';
const BRIDGE = 'bridge';

/**
 * One network namespace for each host of a test, all on one bridge in a namespace of its own, with addresses that exist
 * nowhere else; the test process reaches them over one more interface. A cut makes the receiver drop what comes from
 * the sender, silently, so it works one way and on connections that are open, and needs no firewall: it is a routing
 * rule (which TCP's early demultiplexing would pass by, so that is off).
 *
 * Needs root. Everything is named after this process, and what a dead one left is removed by the next.
 */
export class Namespaces {
  readonly hosts: readonly string[];
  readonly #prefix = `tfs${process.pid}`;
  readonly #subnet: string;
  #cuts: readonly Cut[] = [];

  private constructor(hosts: readonly string[], subnet: string) {
    this.hosts = hosts;
    this.#subnet = subnet;
  }

  /** @returns why not, when this machine or its privileges do not allow it */
  static async open(hosts: readonly string[]): Promise<Namespaces | string> {
    if (process.platform !== 'linux') return 'network namespaces need Linux';
    if (process.getuid?.() !== 0) return 'network namespaces need root';
    await removeLeftovers();
    const namespaces = new Namespaces(hosts, freeSubnet());
    try {
      await namespaces.#setUp();
      return namespaces;
    } catch (error) {
      await namespaces.close();
      return `network namespaces were refused: ${reasonOf(error)}`;
    }
  }

  addressOf(host: string): string {
    const index = this.hosts.indexOf(host);
    if (index < 0) throw new Error(`${host} has no namespace`);
    return `${this.#subnet}.${index + 1}`;
  }

  /** What runs a program on that host; the process is the program itself, not a child of a wrapper. */
  wrap(host: string, program: string, args: readonly string[]): { program: string; args: string[] } {
    return { program: 'nsenter', args: [`--net=/run/netns/${this.#name(host)}`, program, ...args] };
  }

  /** Replaces all cuts. */
  async cut(cuts: readonly Cut[]): Promise<void> {
    const before = this.#cuts;
    this.#cuts = cuts;
    const changes = [
      ...before.filter((cut) => !includes(cuts, cut)).map((cut) => ({ ...cut, change: 'del' })),
      ...cuts.filter((cut) => !includes(before, cut)).map((cut) => ({ ...cut, change: 'add' })),
    ];
    await Promise.all(
      this.hosts.map((host) => {
        const lines = changes
          .filter(({ to }) => to === host)
          .map(
            ({ from, change }) =>
              `rule ${change} pref ${CUT_RULE} iif ${INNER} from ${this.addressOf(from)} blackhole`,
          );
        return lines.length === 0 ? undefined : ip(lines, this.#name(host));
      }),
    );
  }

  /** Neither hears the other. */
  between(some: readonly string[], others: readonly string[]): Cut[] {
    return some.flatMap((a) =>
      others
        .filter((b) => b !== a)
        .flatMap((b) => [
          { from: a, to: b },
          { from: b, to: a },
        ]),
    );
  }

  /** Neither this host nor any other hears the other; the test process hears both. */
  isolation(host: string): Cut[] {
    return this.between([host], this.hosts);
  }

  async heal(): Promise<void> {
    await this.cut([]);
  }

  async close(): Promise<void> {
    await removeAll(this.#prefix);
  }

  async #setUp(): Promise<void> {
    const bridge = this.#name(BRIDGE);
    const outside = `${this.#prefix}o`;
    await ip([bridge, ...this.hosts.map((host) => this.#name(host))].map((name) => `netns add ${name}`));
    await ip(['link add br0 type bridge', 'link set br0 up'], bridge);
    for (const [i, host] of this.hosts.entries()) {
      await ip(
        [
          `link add ${INNER} type veth peer name h${i} netns ${bridge}`,
          `addr add ${this.addressOf(host)}/24 dev ${INNER}`,
          `link set ${INNER} up`,
          'link set lo up',
          `rule add pref ${LOCAL_RULE} lookup local`,
          'rule del pref 0',
        ],
        this.#name(host),
      );
      await ip([`link set h${i} master br0 up`], bridge);
      const setting = 'echo 0 > /proc/sys/net/ipv4/tcp_early_demux';
      const { program, args } = this.wrap(host, 'sh', ['-c', setting]);
      await run(program, args);
    }
    await ip([
      `link add ${outside} type veth peer name outside netns ${bridge}`,
      `addr add ${this.#subnet}.254/24 dev ${outside}`,
      `link set ${outside} up`,
    ]);
    await ip(['link set outside master br0 up'], bridge);
  }

  #name(host: string): string {
    return `${this.#prefix}-${host}`;
  }
}

const includes = (cuts: readonly Cut[], { from, to }: Cut): boolean =>
  cuts.some((cut) => cut.from === from && cut.to === to);

/** Runs lines of `ip`, in one process. */
function ip(lines: readonly string[], namespace?: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const where = namespace === undefined ? [] : ['-n', namespace];
    const child = spawn('ip', [...where, '-batch', '-'], { stdio: ['pipe', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (data: Buffer) => {
      stderr += data.toString();
    });
    child.once('error', reject);
    child.once('close', (code) =>
      code === 0 ? resolve() : reject(new Error(stderr.trim() || `ip ended with ${code}`)),
    );
    child.stdin.end(`${lines.join('\n')}\n`);
  });
}

/** 24 bits of 10.0.0.0/8 that no interface here uses. */
function freeSubnet(): string {
  const taken = Object.values(networkInterfaces()).flatMap((list) =>
    (list ?? []).map(({ address }) => address),
  );
  for (;;) {
    const subnet = `10.213.${Math.floor(Math.random() * 256)}`;
    if (!taken.some((address) => address.startsWith(`${subnet}.`))) return subnet;
  }
}

async function removeLeftovers(): Promise<void> {
  for (const name of await namespaceNames()) {
    const pid = Number(/^tfs(\d+)-/.exec(name)?.[1] ?? Number.NaN);
    if (!Number.isNaN(pid) && !isAlive(pid)) await removeAll(`tfs${pid}`);
  }
}

async function removeAll(prefix: string): Promise<void> {
  for (const name of await namespaceNames())
    if (name.startsWith(`${prefix}-`)) await run('ip', ['netns', 'del', name]);
  const outside = `${prefix}o`;
  // It goes with the bridge, but a moment later.
  if (networkInterfaces()[outside] !== undefined)
    await run('ip', ['link', 'del', outside]).catch((error: unknown) => {
      if (networkInterfaces()[outside] !== undefined) throw error;
    });
}

async function namespaceNames(): Promise<string[]> {
  const { stdout } = await run('ip', ['netns', 'list']);
  return stdout.split('\n').flatMap((line) => (line === '' ? [] : [line.split(' ')[0]!]));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    // No such process.
    return false;
  }
}

const reasonOf = (error: unknown): string =>
  ((error as { stderr?: string }).stderr || (error as Error).message).trim().split('\n')[0]!;
