import type { Fault, Stage } from './faults.ts';
import { FAIR, type Weather } from './network.ts';
import type { FaultKind } from './plan.ts';
import { REDIS_HOST } from './redis.ts';

const everywhere = ({ cluster }: Stage): string[] => [...cluster.hosts, REDIS_HOST];

/** @param ways both, or one of the two */
function separate(
  stage: Stage,
  here: readonly string[],
  there: readonly string[],
  ways: 'both' | 'out' | 'in',
) {
  const { network } = stage.cluster;
  const pairs: [string, string][] = [];
  for (const a of here)
    for (const b of there) {
      if (ways !== 'in') pairs.push([a, b]);
      if (ways !== 'out') pairs.push([b, a]);
    }
  const blocked = pairs.filter(([from, to]) => !network.isBlocked(from, to));
  for (const [from, to] of blocked) network.block(from, to);
  return () => {
    for (const [from, to] of blocked) network.unblock(from, to);
  };
}

function isolate(stage: Stage, host: string): ReturnType<Fault> {
  const others = everywhere(stage).filter((other) => other !== host);
  // From some of the others, often.
  const some = stage.random.float() < 0.5 ? others : others.filter(() => stage.random.float() < 0.5);
  const ways = stage.random.pick(['both', 'both', 'out', 'in'] as const);
  const mend = separate(stage, [host], some, ways);
  return { lastsMs: stage.between(300, 9_000), mend, what: `${host} ${ways} ${some.join(' ')}` };
}

function weather(stage: Stage, change: Partial<Weather>): ReturnType<Fault> {
  const { network } = stage.cluster;
  network.weather = { ...network.weather, ...change };
  const mend = () => {
    const fair = Object.fromEntries(Object.keys(change).map((key) => [key, FAIR[key as keyof Weather]]));
    network.weather = { ...network.weather, ...fair };
  };
  return { lastsMs: stage.between(500, 8_000), mend };
}

/** What the network does. */
export const NETWORK_FAULTS = {
  partition: (stage) => {
    const hosts = everywhere(stage);
    const here = hosts.filter(() => stage.random.float() < 0.5);
    const there = hosts.filter((host) => !here.includes(host));
    if (here.length === 0 || there.length === 0) return undefined;
    const mend = separate(stage, here, there, 'both');
    return { lastsMs: stage.between(300, 9_000), mend, what: `${here.join(' ')} | ${there.join(' ')}` };
  },
  'one-way': (stage) => {
    const hosts = everywhere(stage);
    const [from, to] = [stage.random.pick(hosts), stage.random.pick(hosts)];
    if (from === to) return undefined;
    const mend = separate(stage, [from], [to], 'out');
    return { lastsMs: stage.between(300, 12_000), mend, what: `${from} > ${to}` };
  },
  'isolate-dataserver': (stage) => isolate(stage, stage.random.pick(stage.cluster.dataservers).node.host),
  'isolate-nameserver': (stage) => isolate(stage, stage.random.pick(stage.cluster.nameservers).node.host),
  'weather-cut': (stage) => weather(stage, { cut: stage.random.pick([0.002, 0.01, 0.05]) }),
  'weather-slow': (stage) =>
    weather(stage, { slow: stage.random.pick([0.01, 0.1]), slowMs: stage.random.pick([20, 500, 3_000]) }),
  'weather-refuse': (stage) => weather(stage, { refuse: stage.random.pick([0.1, 0.5]) }),
  'cut-connections': (stage) => {
    const { network } = stage.cluster;
    const host = stage.random.pick(stage.cluster.hosts);
    let count = 0;
    for (const connection of [...network.connections]) {
      const isIts = connection.client.process.host === host || connection.server.process.host === host;
      if (!isIts || stage.random.float() < 0.3) continue;
      connection.cut();
      count++;
    }
    return count === 0 ? undefined : { lastsMs: 1_000, what: `${count} of ${host}` };
  },
  'delay-link': (stage) => {
    const hosts = everywhere(stage);
    const [from, to] = [stage.random.pick(hosts), stage.random.pick(hosts)];
    const { network } = stage.cluster;
    network.delay(from, to, stage.random.pick([10, 100, 800, 2_500]));
    return {
      lastsMs: stage.between(500, 9_000),
      mend: () => network.delay(from, to, 0),
      what: `${from} > ${to}`,
    };
  },
} satisfies Partial<Record<FaultKind, Fault>>;
