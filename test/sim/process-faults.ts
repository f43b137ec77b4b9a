import { listenToMarks } from '../../common/marks.ts';
import type { SimCluster } from './cluster.ts';
import type { Fault, Stage } from './faults.ts';
import type { FaultKind } from './plan.ts';

type Node = SimCluster['nodes'][number]['node'];

/** The longest that a server takes to be seen as one again: its start, its registration, its first heartbeats. */
const SETTLES_MS = 3_000;

const aDataServer = ({ cluster, random }: Stage): Node => random.pick(cluster.dataservers).node;
const aNameServer = ({ cluster, random }: Stage): Node => random.pick(cluster.nameservers).node;

function kill(stage: Stage, node: Node): ReturnType<Fault> {
  if (!node.isRunning) return undefined;
  const awayMs = stage.random.float() < 0.5 ? stage.between(50, 500) : stage.between(500, 9_000);
  node.kill(awayMs);
  return { lastsMs: awayMs + SETTLES_MS, what: node.name };
}

function pause(stage: Stage, node: Node): ReturnType<Fault> {
  const { process } = node;
  if (process === undefined || !node.isRunning || process.isPaused) return undefined;
  process.pause();
  return { lastsMs: stage.between(100, 7_000), mend: () => process.resume(), what: node.name };
}

/** In the middle of whatever it is doing then. */
function killAtStep(stage: Stage, node: Node): ReturnType<Fault> {
  if (!node.isRunning) return undefined;
  const events = 1 + stage.random.below(200);
  node.light(events);
  return { lastsMs: 2 * SETTLES_MS, what: `${node.name} after ${events} events` };
}

/** What a disk does from a rare branch to the kill: right behind it, or when what follows from it is half done. */
const EFFECTS_AFTER_MARK = [2, 8, 30];
/** Where there are marks that are meant. */
const EFFECTS_AIMED = [2];
const DISK_EFFECT = /^disk (write|dwrite|datasync|truncate|create|rename|link|unlink|syncdir)/;

/** Soon after it took a branch that is rarely taken: the fewer times that was so before, the likelier. */
function killAtMark({ cluster, random, between }: Stage): ReturnType<Fault> {
  if (cluster.isListeningToMarks) return undefined;
  cluster.isListeningToMarks = true;
  const { killAtMarks } = cluster.plan;
  listenToMarks((name, times) => {
    if (killAtMarks?.includes(name) === false) return;
    const { running } = cluster.scheduler;
    const found = cluster.nodes.find(({ node }) => node.process === running && node.isRunning);
    if (running === undefined || found === undefined || random.float() * times > 1) return;
    found.node.light(
      1 + random.below(random.pick(killAtMarks === undefined ? EFFECTS_AFTER_MARK : EFFECTS_AIMED)),
      DISK_EFFECT,
    );
  });
  const mend = () => {
    cluster.isListeningToMarks = false;
    listenToMarks(undefined);
  };
  return { lastsMs: between(10_000, 30_000), mend };
}

function powerOff(stage: Stage, hosts: readonly string[]): ReturnType<Fault> {
  const { cluster } = stage;
  const up = hosts.filter((host) => cluster.network.isUp(host));
  if (up.length === 0) return undefined;
  const nodes = cluster.nodes.filter(({ node }) => up.includes(node.host));
  for (const host of up) cluster.network.power(host, false);
  for (const { node } of nodes) node.powerOff();
  const lastsMs = stage.between(100, 8_000);
  const mend = () => {
    for (const host of up) cluster.network.power(host, true);
    for (const { node } of nodes) node.startIn(stage.random.float() * 800);
  };
  return { lastsMs, mend, what: up.join(' ') };
}

/** What becomes of processes and of the machines they run on. */
export const PROCESS_FAULTS = {
  'kill-dataserver': (stage) => kill(stage, aDataServer(stage)),
  'kill-nameserver': (stage) => kill(stage, aNameServer(stage)),
  'kill-at-step': (stage) =>
    killAtStep(stage, stage.random.float() < 0.8 ? aDataServer(stage) : aNameServer(stage)),
  'kill-at-mark': killAtMark,
  'kill-in-recovery': (stage) => {
    const node = aDataServer(stage);
    if (!node.isRunning) return undefined;
    node.fuses = Array.from({ length: 1 + stage.random.below(3) }, () => 1 + stage.random.below(80));
    node.kill();
    return { lastsMs: 2 * SETTLES_MS, what: `${node.name} ${node.fuses.join(' ')}` };
  },
  'pause-dataserver': (stage) => pause(stage, aDataServer(stage)),
  'pause-nameserver': (stage) => pause(stage, aNameServer(stage)),
  'slow-dataserver': (stage) => {
    const node = aDataServer(stage);
    const { process } = node;
    if (process === undefined || process.slowness !== 1) return undefined;
    process.slowness = stage.between(3, 60);
    const mend = () => {
      process.slowness = 1;
    };
    return { lastsMs: stage.between(500, 8_000), mend, what: node.name };
  },
  'stop-dataserver': (stage) => {
    const node = aDataServer(stage);
    const { process } = node;
    if (node.live === undefined || process === undefined) return undefined;
    node.isHeld = true;
    node.stop();
    const mend = () => {
      node.isHeld = false;
      // One that still stops is started again when it has ended: until then it is as good as away.
      node.startIn(0);
    };
    const isOver = () => !process.isAlive;
    return { lastsMs: stage.between(1_000, 9_000), mend, isOver, what: node.name };
  },
  'host-power': (stage) => powerOff(stage, [aDataServer(stage).host]),
  'cluster-power': (stage) => powerOff(stage, [...new Set(stage.cluster.plan.hosts)]),
} satisfies Partial<Record<FaultKind, Fault>>;
