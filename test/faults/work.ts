import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import { toTfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import { type BlockId, type ServerId, SLOT_MAX } from '../../common/ids.ts';
import { keyOf } from '../kit/cluster-probe.ts';
import { writeOtherRecord } from '../kit/other-record.ts';
import { withRedis } from '../kit/redis-server.ts';
import { areAlike, type Replica } from '../kit/replicas-alike.ts';
import { strayFiles } from '../kit/stray-files.ts';
import type { Cell, Mend } from './cell.ts';
import { COMPACTION_SCENE, garbageRich } from './compaction-points.ts';
import { fill } from './disks.ts';
import { replicasOf } from './kill-points.ts';
import { lostReplicas, REPLICATION_SCENE } from './replication-points.ts';
import type { Scene, SceneOptions } from './scene.ts';

const RECEIVER = 2 as ServerId;
const WITHIN_MS = 120_000;
const STRAYS_MS_MAX = 90_000;
const LOOK_MS = 500;
const ASK_EVERY = 5;

/** What the work of a cell is about, from its beginning to the look at it afterwards. */
interface Subject {
  readonly copied: readonly BlockId[];
  readonly compacted: readonly BlockId[];
}

type Start = (scene: Scene) => Promise<Subject & { readonly mend?: Mend }>;

/** @param check looks at more than that everything was done once */
function cell(
  name: string,
  start: Start,
  {
    check,
    ...rest
  }: Partial<Pick<Cell, 'needs' | 'scene' | 'brokenMs'>> & {
    readonly check?: (scene: Scene, subject: Subject) => Promise<readonly string[]>;
  } = {},
): Cell {
  let subject: Subject;
  return {
    name,
    brokenMs: 1_000,
    writesGoOn: true,
    settleMsMax: WITHIN_MS,
    scene: COMPACTION_SCENE,
    breakIt: async (scene) => {
      const { mend = async () => undefined, ...started } = await start(scene);
      subject = started;
      return async () => {
        await mend();
        // While the load goes on: what is not done by now is said afterwards.
        await untilDone(scene, subject);
      };
    },
    afterwards: async (scene) => [
      ...(await untilDone(scene, subject)),
      ...(await strayFiles(scene, { withinMs: STRAYS_MS_MAX })),
      ...((await check?.(scene, subject)) ?? []),
    ],
    ...rest,
  };
}

/** Compactions are asked for again, as an operator would; copies come by themselves. @returns what is not done in time */
async function untilDone(scene: Scene, { copied, compacted }: Subject): Promise<string[]> {
  const deadlineAt = performance.now() + WITHIN_MS;
  for (let look = 1; ; look++) {
    const missing: string[] = [];
    for (const block of copied)
      if (!isWhole(await replicasOf(scene, block), 0)) missing.push(`block ${block} is not whole`);
    for (const block of compacted) {
      if (isWhole(await replicasOf(scene, block), 1)) continue;
      missing.push(`block ${block} is not compacted`);
      if (look % ASK_EVERY === 0) void scene.probe.compact(block).catch(() => undefined);
    }
    if (missing.length === 0) return [];
    if (performance.now() > deadlineAt)
      return [...missing, ...(await scene.probe.describeBlocks(new Set([...copied, ...compacted])))];
    await sleep(LOOK_MS);
  }
}

const isWhole = (replicas: readonly Replica[], generation: number): boolean =>
  replicas.length === 3 &&
  areAlike(replicas) &&
  replicas.every(({ entry }) => entry.generation === generation);

/** The library itself: what stands in it need not come from a leader. */
async function withQueue<T>(
  { cluster }: Scene,
  server: ServerId,
  use: (queue: Queue) => Promise<T>,
): Promise<T> {
  const { host, port } = cluster.redisAddress;
  const prefix = `{tfs-${cluster.config.cluster.uuid}}`;
  const queue = new Queue(`dataserver-${server}`, { connection: { host, port }, prefix });
  // Whoever uses it hears of it.
  queue.on('error', () => undefined);
  try {
    return await use(queue);
  } finally {
    await queue.close();
  }
}

const twice = cell('every job twice, and every compaction asked for twice at once', async (scene) => {
  const { block, sequencer } = await garbageRich(scene);
  const copied = await lostReplicas(scene, RECEIVER, 2);
  await scene.probe.untilLed(10_000, ({ completeView }) => completeView);
  const asked = Promise.allSettled([scene.probe.compact(block), scene.probe.compact(block)]);
  for (const [server, kind, blocks] of [
    [RECEIVER, 'replicate', copied],
    [sequencer as ServerId, 'compact', [block]],
  ] as const)
    await withQueue(scene, server, (queue) =>
      queue.addBulk(
        blocks.flatMap((one) =>
          ['a', 'b', 'c'].map((id) => ({
            name: 'job',
            data: { kind, block: one, round: 1 },
            opts: { jobId: `${kind}-${one}-${id}` },
          })),
        ),
      ),
    );
  await asked;
  return { copied, compacted: [block] };
});

const RUBBISH: readonly unknown[] = [
  null,
  'text',
  [],
  {},
  { kind: 'format', block: 1, round: 1 },
  { kind: 'replicate', block: -1, round: 1 },
  { kind: 'replicate', block: 2 ** 40, round: 1 },
  { kind: 'compact', block: 'x', round: 1 },
  { kind: 'compact', block: 4_000_000_000, round: 1 },
  { kind: 'replicate', block: 4_000_000_000, round: -1 },
  { kind: 'replicate', text: 'x'.repeat(1 << 20) },
];

const rubbish = cell('queues full of rubbish', async (scene) => {
  for (const { id } of scene.cluster.config.mounts) {
    await withQueue(scene, id as ServerId, async (queue) => {
      await queue.addBulk(RUBBISH.map((data) => ({ name: 'job', data })));
      // Ids without a job, and a job that nothing of ours has written.
      const key = (kind: string) => `{tfs-${scene.cluster.config.cluster.uuid}}:dataserver-${id}:${kind}`;
      await withRedis(scene.cluster.redisAddress, async (redis) => {
        await redis.lpush(key('wait'), 'nobody', '');
        await redis.hset(key('half'), 'data', 'not JSON');
        await redis.lpush(key('wait'), 'half');
      });
    });
  }
  const copied = await lostReplicas(scene, RECEIVER, 2);
  const { block } = await garbageRich(scene);
  return { copied, compacted: [block] };
});

/** Fills the disk when the work has come to a step, and looks whether the block is as it was. */
function fullDuring(what: string, step: string, start: Start): Cell {
  return cell(
    `a disk that becomes full while ${what}`,
    async (scene) => {
      const ballast = join(scene.smallDisk!, 'ballast');
      const subject = await start(scene);
      const [block] = [...subject.copied, ...subject.compacted];
      const steps = scene.cluster.steps(`ds${RECEIVER}`);
      steps.arm({ block: block!, at: step, when: 'before', action: 'hold' });
      if (subject.compacted.length > 0) void scene.probe.compact(block!).catch(() => undefined);
      const deadlineAt = performance.now() + WITHIN_MS;
      const reached = await steps.reached(block!, () => performance.now() > deadlineAt);
      if (reached === undefined) throw new Error(`the work on block ${block} never came to "${step}"`);
      fill(ballast);
      steps.go();
      await sleep(5_000);
      const others = (await replicasOf(scene, block!)).filter(
        ({ entry }) => entry.flags !== 0 || entry.generation !== 0,
      );
      if (others.length > 0) throw new Error(`block ${block} is not as it was: ${JSON.stringify(others)}`);
      return { ...subject, mend: async () => rmSync(ballast) };
    },
    {
      needs: 'small disk',
      check: async ({ cluster }) => saidFull(cluster.names.map((name) => cluster.log(name)).join()),
    },
  );
}

const saidFull = (log: string): string[] =>
  /the disk is full/.test(log) ? [] : ['nobody has said that the disk was full'];

const fullCompaction = fullDuring('a block is compacted on it', 'writev N.1.blk.tmp', async (scene) => ({
  copied: [],
  compacted: [(await garbageRich(scene)).block],
}));

const fullReplication = fullDuring('a replica is made on it', 'write N.0.blk.tmp', async (scene) => ({
  copied: await lostReplicas(scene, RECEIVER, 1),
  compacted: [],
}));

const OTHER_RECORDS = 10;

const otherDigest = cell(
  'a member of a compaction that makes another file than the others',
  async (scene) => {
    const { cluster, load } = scene;
    const { block, member } = await garbageRich(scene);
    const file = (server: number, generation: number) =>
      join(cluster.mountPath(server), 'blocks', blockFileName(block, generation, 'blk'));
    // Several: the load may delete one of them before the block is compacted.
    const slots = load
      .liveIn(block)
      .map((name) => keyOf(name).fileId)
      .filter((fileId) => fileId <= SLOT_MAX)
      .slice(0, OTHER_RECORDS);
    const fromMs = performance.now();
    await cluster.stopOne(`ds${member}`, 'SIGKILL');
    for (const slot of slots) await writeOtherRecord(file(member, 0), slot);
    await cluster.startOne(`ds${member}`);
    scene.faults.push({ fromMs, healedMs: performance.now() });
    await untilDone(scene, { copied: [block], compacted: [] });
    return { copied: [], compacted: [block] };
  },
  {
    check: async (scene, { compacted: [block] }) => {
      const { cluster } = scene;
      const files = cluster.config.mounts.map(({ id }) =>
        readFileSync(join(cluster.mountPath(id), 'blocks', blockFileName(block!, 1, 'blk'))),
      );
      const said = cluster.names.some((name) =>
        cluster.log(name).includes('made another file of the same records'),
      );
      return [
        ...(files.every((one) => one.equals(files[0]!)) ? [] : [`the files of block ${block} differ`]),
        ...(said ? [] : ['nobody has said that a member made another file']),
      ];
    },
  },
);

const FLUSHES = 8;

const flushed = cell('FLUSHALL again and again during repairs and compactions', async (scene) => {
  const rich = [await garbageRich(scene), await garbageRich(scene)];
  const copied = await lostReplicas(scene, RECEIVER, 3);
  for (const { block } of rich) void scene.probe.compact(block).catch(() => undefined);
  for (let i = 0; i < FLUSHES; i++) {
    await withRedis(scene.cluster.redisAddress, (redis) => redis.flushall());
    await sleep(1_000);
  }
  return { copied, compacted: rich.map(({ block }) => block) };
});

const SLOW: Partial<SceneOptions> = {
  ...REPLICATION_SCENE,
  config: { ...COMPACTION_SCENE.config, jobs: { concurrency: 1, bytesPerSecond: 200_000 } },
};
const REDIS_GONE_MS = 10_000;

/** Seen from the queue itself, so that it is sure that something waits there. */
const killedWithJobs = cell(
  'kill -9 redis while jobs wait in it, back empty',
  async (scene) => {
    const { cluster } = scene;
    const copied = await lostReplicas(scene, RECEIVER, 6);
    const deadlineAt = performance.now() + WITHIN_MS;
    while ((await waiting(scene)) === 0) {
      if (performance.now() > deadlineAt) throw new Error('no job has waited in the queue');
      await sleep(100);
    }
    await cluster.stopOne('redis', 'SIGKILL');
    await sleep(REDIS_GONE_MS);
    for (const { id } of cluster.config.mounts)
      await scene.probe.entriesOf(id as ServerId).catch((error: unknown) => {
        throw new Error(`server ${id} does not answer while Redis is away: ${toTfsError(error).message}`);
      });
    return { copied, compacted: [], mend: () => cluster.startOne('redis') };
  },
  { scene: SLOW },
);

const waiting = (scene: Scene): Promise<number> =>
  withQueue(scene, RECEIVER, async (queue) => {
    const counts = await queue.getJobCounts('wait', 'prioritized', 'delayed');
    return Object.values(counts).reduce((sum, count) => sum + count, 0);
  });

/** Faults in the course of work on blocks, and around it. */
export const work: readonly Cell[] = [
  twice,
  rubbish,
  fullCompaction,
  fullReplication,
  otherDigest,
  flushed,
  killedWithJobs,
];
