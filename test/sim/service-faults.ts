import type { Fault, Stage } from './faults.ts';
import type { FaultKind } from './plan.ts';
import type { QueueFaults } from './queues.ts';
import { REDIS_HOST } from './redis.ts';

function queue(stage: Stage, faults: QueueFaults): ReturnType<Fault> {
  const { queues } = stage.cluster.redis;
  queues.faults = { ...queues.faults, ...faults };
  const mend = () => {
    const none = Object.fromEntries(Object.keys(faults).map((key) => [key, 0]));
    queues.faults = { ...queues.faults, ...none };
  };
  return { lastsMs: stage.between(2_000, 20_000), mend };
}

/**
 * A machine whose clock may go wrong. What hangs on the time of day is right as long as half of the machines with servers
 * have it: of one machine, and of more than half, no clock goes wrong.
 */
function hostWithClock({ cluster, random }: Stage): string | undefined {
  const host = random.pick(cluster.hosts);
  const servers = new Set(cluster.plan.hosts);
  if (!servers.has(host)) return host;
  const wrong = [...servers].filter((other) => other !== host && !cluster.wall(other).isRight);
  return wrong.length < Math.floor(servers.size / 2) ? host : undefined;
}

/** What becomes of the lock, the queue, the clocks, and what NameServers and indexes remember. */
export const SERVICE_FAULTS = {
  'redis-down': (stage) => {
    const { redis } = stage.cluster;
    redis.isDown = true;
    const mend = () => {
      redis.isDown = false;
      if (stage.random.float() < 0.5) redis.forget();
    };
    return { lastsMs: stage.between(300, 12_000), mend };
  },
  'redis-forgets': (stage) => {
    stage.cluster.redis.forget();
    return { lastsMs: 1_500 };
  },
  'redis-cut-off': (stage) => {
    const { network } = stage.cluster;
    const { host } = stage.random.pick(stage.cluster.nameservers).node;
    network.block(host, REDIS_HOST);
    return {
      lastsMs: stage.between(300, 9_000),
      mend: () => network.unblock(host, REDIS_HOST),
      what: host,
    };
  },
  'lock-rolls-back': (stage) => {
    const { locks } = stage.cluster.redis;
    locks.rollBack(Math.floor(locks.epoch * stage.random.float()));
    return { lastsMs: 1_500 };
  },
  'lock-granted-twice': (stage) => {
    const { locks } = stage.cluster.redis;
    locks.grantsAll = true;
    const mend = () => {
      locks.grantsAll = false;
    };
    return { lastsMs: stage.between(500, 8_000), mend };
  },
  'queue-loses': (stage) => queue(stage, { loses: stage.between(0.1, 1) }),
  'queue-repeats': (stage) =>
    queue(stage, { repeats: stage.between(0.1, 0.9), reorders: stage.random.float() }),
  'queue-late': (stage) => queue(stage, { delays: stage.between(0.1, 1), reorders: stage.random.float() }),
  'clock-jump': (stage) => {
    const host = hostWithClock(stage);
    if (host === undefined) return undefined;
    const wall = stage.cluster.wall(host);
    const byMs = stage.random.pick([-1, 1]) * 10 ** stage.between(2, 8);
    wall.jump(byMs);
    return { lastsMs: stage.between(1_000, 20_000), mend: () => wall.correct(), what: `${host} ${byMs} ms` };
  },
  'clock-frozen': (stage) => {
    const host = hostWithClock(stage);
    if (host === undefined) return undefined;
    const wall = stage.cluster.wall(host);
    wall.freeze(stage.cluster.scheduler.now);
    return { lastsMs: stage.between(1_000, 20_000), mend: () => wall.correct(), what: host };
  },
  'kv-lost': (stage) => {
    const { node, kv } = stage.random.pick(stage.cluster.dataservers);
    if (!node.isRunning) return undefined;
    node.kill(stage.between(50, 3_000));
    kv.wipe();
    return { lastsMs: 6_000, what: node.name };
  },
  'nameserver-wiped': (stage) => {
    const { node, kv } = stage.random.pick(stage.cluster.nameservers);
    if (!node.isRunning) return undefined;
    node.kill(stage.between(50, 6_000));
    kv.wipe();
    return { lastsMs: 9_000, what: node.name };
  },
  'nameservers-wiped': (stage) => {
    for (const { node, kv } of stage.cluster.nameservers) {
      node.kill(stage.between(50, 3_000));
      kv.wipe();
    }
    stage.cluster.redis.forget();
    return { lastsMs: 9_000 };
  },
} satisfies Partial<Record<FaultKind, Fault>>;
