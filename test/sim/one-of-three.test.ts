import * as assert from 'uvu/assert';
import { isTfsError, toTfsError } from '../../common/errors.ts';
import { describe } from '../kit/suite.ts';
import { SimCluster } from './cluster.ts';
import { SimLoad } from './load.ts';
import { planOf } from './plan.ts';
import { Scheduler } from './scheduler.ts';

type Server = SimCluster['dataservers'][number];
type Break = (server: Server, cluster: SimCluster) => void;

/** Three copies on three servers, each on a host of its own, two copies needed: nothing can take a copy's place. */
const SEEDS: readonly number[] = Array.from({ length: 1000 }, (_, seed) => seed)
  .filter((seed) => {
    const { hosts, replicas, minWrite } = planOf(seed, { only: [] });
    return hosts.length === 3 && new Set(hosts).size === 3 && replicas === 3 && minWrite === 2;
  })
  .slice(0, 2);

const failing = (kinds: readonly ('read' | 'write' | 'sync')[]): Break => {
  return ({ medium }) => {
    medium.faults.errors = [{ share: 1, kinds }];
  };
};
const hanging = (...kinds: ('read' | 'write' | 'sync' | 'name')[]): Break => {
  return ({ medium }) => medium.faults.hang(kinds);
};

/** What may go wrong with one server, for good. */
const TROUBLES: Readonly<Record<string, Break>> = {
  'its process is killed': ({ node }) => {
    node.isHeld = true;
    node.kill();
  },
  'its process stands still': ({ node }) => node.process!.pause(),
  'nobody reaches its host, and it nobody': ({ node }, { hosts, network }) => {
    for (const host of hosts)
      if (host !== node.host) {
        network.block(host, node.host);
        network.block(node.host, host);
      }
  },
  'nobody reaches its host': ({ node }, { hosts, network }) => {
    for (const host of hosts) if (host !== node.host) network.block(host, node.host);
  },
  'its host reaches nobody': ({ node }, { hosts, network }) => {
    for (const host of hosts) if (host !== node.host) network.block(node.host, host);
  },
  'its host and another one do not reach each other': (server, { dataservers, network }) => {
    const other = dataservers.find(({ id }) => id !== server.id)!;
    network.block(server.node.host, other.node.host);
    network.block(other.node.host, server.node.host);
  },
  'its disk is mounted read-only': ({ medium }) => {
    medium.faults.isReadOnly = true;
    medium.faults.count('read-only');
  },
  'its disk is full': ({ medium }) => {
    medium.capacityBytes = medium.fileSystem.usedBytes;
  },
  'its disk fails to sync': failing(['sync']),
  'its disk fails to write': failing(['write']),
  'its disk fails to read': failing(['read']),
  'its disk hangs': hanging('read', 'write', 'sync', 'name'),
  'its disk hangs when it syncs': hanging('sync'),
  'its disk hangs when it reads': hanging('read'),
  'its disk is slow': ({ medium }) => {
    medium.faults.slowness = 50;
  },
};

/** The longest that one request takes, in virtual time: until others go on without the server, at the first of a block. */
const MS_MAX = { put: 7_000, get: 2_000, hide: 9_000, remove: 9_000 } as const;

describe('one server of three', (test) => {
  for (const [what, begin] of Object.entries(TROUBLES))
    test(`${what}: pictures are stored, read, hidden and deleted, and no request fails`, async () => {
      for (const seed of SEEDS) {
        const scheduler = new Scheduler(seed);
        const cluster = await SimCluster.open(planOf(seed, { operations: 120, only: [] }), scheduler);
        const load = new SimLoad(cluster, { acked: () => undefined, changed: () => undefined });
        load.start();
        await scheduler.run(() => load.isOver);
        begin(cluster.dataservers[seed % 3]!, cluster);
        const { client } = cluster.clients[0]!;
        const failures: string[] = [];
        const request = async (kind: keyof typeof MS_MAX, of: string, ask: () => Promise<unknown>) => {
          const beganAtMs = scheduler.now;
          await ask().catch((error: unknown) => {
            // As the load has left it.
            if (!isTfsError(error, 'NOT_FOUND')) failures.push(`${kind} ${of}: ${toTfsError(error).message}`);
          });
          const tookMs = scheduler.now - beganAtMs;
          if (tookMs > MS_MAX[kind]) failures.push(`${kind} ${of} took ${tookMs.toFixed()} ms`);
        };
        let isDone = false;
        const done = (async () => {
          for (let i = 0; i < 10; i++)
            await request('put', `${i}`, () => client.put(Buffer.alloc(500 + i, i)));
          for (const kind of ['get', 'hide', 'remove'] as const)
            for (const { name } of load.names)
              await request(kind, name, async () => {
                if (kind === 'get') await (await client.get(name)).bytes();
                else await client[kind](name);
              });
          await request('put', 'late', () => client.put(Buffer.alloc(777, 7)));
        })().finally(() => {
          isDone = true;
        });
        await scheduler.run(() => isDone);
        await done;
        assert.ok(load.names.length > 20, `${load.names.length} names`);
        assert.equal(failures, [], `seed ${seed}`);
      }
    });
});
