import { createHash, randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import { TfsClient, type TfsClientOptions } from '../../client/client.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { type ErrorCode, isTfsError, TfsError } from '../../common/errors.ts';
import type { BlockId, ServerId } from '../../common/ids.ts';
import { PUT_ATTEMPTS_MAX } from '../../common/limits.ts';
import { silentLog } from '../../common/log.ts';
import { encodeName, suffixHash } from '../../common/name.ts';
import { MediaType, NameFlag, Op } from '../../common/wire/messages.ts';
import { FAKE_UUID, FakeCluster } from '../kit/fake-cluster.ts';
import { describe, type TestContext } from '../kit/suite.ts';

async function open(t: TestContext, cluster: FakeCluster, more: Partial<TfsClientOptions> = {}) {
  const client = await TfsClient.open({
    peers: cluster,
    nameservers: cluster.nameserverAddresses,
    rendezvousKey: cluster.keyring.rendezvousKey,
    clusterDigit: 1,
    clusterUuid: FAKE_UUID,
    clock: nodeClock,
    random: nodeRandom,
    log: silentLog,
    ...more,
  });
  t.defer(() => client.close());
  return client;
}

async function rejects(promise: Promise<unknown>, code: ErrorCode): Promise<TfsError> {
  try {
    await promise;
  } catch (error) {
    if (isTfsError(error, code)) return error;
    throw error;
  }
  throw new Error(`resolved instead of failing with ${code}`);
}

const sha1 = (b: Buffer) => createHash('sha1').update(b).digest('hex');
const reads = (cluster: FakeCluster) => cluster.servers.map((server) => server.count(Op.READ));
const sum = (counts: number[]) => counts.reduce((a, b) => a + b, 0);

describe('client: put and get', (test) => {
  test('what was stored comes back, with its facts', async (t) => {
    const client = await open(t, new FakeCluster());
    const body = randomBytes(10_000);
    const stored = await client.put(body, { mediaType: MediaType.PNG, suffixHash: suffixHash('.png') });
    assert.is(stored.name.length, 18);
    assert.is(stored.size, 10_000);
    assert.is(stored.members.length, 3);
    assert.is(stored.deduplicated, false);
    const picture = await client.get(stored.name);
    assert.ok((await picture.bytes()).equals(body));
    assert.is(picture.facts.sha1.toString('hex'), sha1(body));
    assert.is(picture.facts.mediaType, MediaType.PNG);
    assert.is(picture.facts.suffixHash, suffixHash('.png'));
  });

  test('payloads in pieces of any size are one payload', async (t) => {
    const client = await open(t, new FakeCluster());
    const body = randomBytes(200_000);
    const stored = await client.put([body.subarray(0, 1), body.subarray(1, 70_000), body.subarray(70_000)]);
    assert.is(stored.sha1.toString('hex'), sha1(body));
    assert.ok((await (await client.get(stored.name)).bytes()).equals(body));
  });

  test('the same content goes to the same server and is stored once', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const body = randomBytes(1000);
    const first = await client.put(body);
    const second = await client.put(body);
    assert.is(second.deduplicated, true);
    assert.is.not(second.name, first.name);
    assert.is(second.key.block, first.key.block);
  });

  test('contents spread over the servers', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    for (let i = 0; i < 60; i++) await client.put(randomBytes(64));
    for (const server of cluster.servers) assert.ok(server.count(Op.PUT) >= 8, `${server.count(Op.PUT)}`);
  });

  test('a large payload is read in pieces, and a part of it without the rest', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const body = randomBytes(3_500_000);
    const { name } = await client.put(body);
    const picture = await client.get(name);
    assert.is(picture.first.length, 1 << 20);
    assert.is(picture.isWhole, false);
    const sizes: number[] = [];
    for await (const piece of picture.pieces()) sizes.push(piece.length);
    assert.equal(sizes, [1 << 20, 1 << 20, 1 << 20, 3_500_000 - (3 << 20)]);
    assert.ok((await picture.bytes()).equals(body));
    const before = sum(reads(cluster));
    const part = await client.get(name, { offset: 1_500_000, length: 1_000_000 });
    assert.ok((await part.bytes()).equals(body.subarray(1_500_000, 2_500_000)));
    assert.is(sum(reads(cluster)) - before, 2);
    const tail = await client.get(name, { offset: 3_499_999 });
    assert.ok((await tail.bytes()).equals(body.subarray(3_499_999)));
    const beyond = await client.get(name, { offset: 4_000_000 });
    assert.is((await beyond.bytes()).length, 0);
  });

  test('facts alone cost no payload', async (t) => {
    const client = await open(t, new FakeCluster());
    const { name } = await client.put(randomBytes(5000));
    assert.is((await client.stat(name)).size, 5000);
  });

  test('names: malformed, of another cluster, with a wrong cookie, of no block', async (t) => {
    const client = await open(t, new FakeCluster());
    const { name, key } = await client.put(randomBytes(100));
    await rejects(client.get('hello'), 'BAD_NAME');
    await rejects(client.get(`t${name.slice(1)}`), 'BAD_NAME');
    await rejects(client.get(encodeName({ ...key, clusterDigit: 2 })), 'NOT_FOUND');
    await rejects(client.get({ ...key, cookie: (key.cookie ^ 1) as typeof key.cookie }), 'NOT_FOUND');
    await rejects(client.get({ ...key, block: 0x7_0000 as BlockId }), 'NOT_FOUND');
    await rejects(client.put(Buffer.alloc(0)), 'EMPTY_BODY');
  });

  test('a closed client says so', async (t) => {
    const client = await open(t, new FakeCluster());
    await client.close();
    await rejects(client.put(randomBytes(10)), 'CLOSED');
    await rejects(client.get('T19aETByJT1RCvBVdK'), 'CLOSED');
  });
});

describe('client: replicas that fail', (test) => {
  test('readers go on with another replica, and ask the dead one last for a while', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const bodies = Array.from({ length: 20 }, () => randomBytes(300));
    const names: string[] = [];
    for (const body of bodies) names.push((await client.put(body)).name);
    cluster.server(2).down = true;
    for (const [i, name] of names.entries())
      assert.ok((await (await client.get(name)).bytes()).equals(bodies[i]!));
    assert.ok(cluster.server(2).count(Op.READ) <= 3, `asked ${cluster.server(2).count(Op.READ)} times`);
  });

  for (const damage of ['told', 'untold'] as const) {
    test(`a damaged replica (${damage}) is passed over and reported`, async (t) => {
      const cluster = new FakeCluster();
      const corrupt: number[] = [];
      const client = await open(t, cluster, { events: { corrupt: (server) => corrupt.push(server) } });
      // Different pictures start at different replicas.
      const bodies = Array.from({ length: 9 }, () => randomBytes(1_100_000));
      const names: string[] = [];
      for (const body of bodies) names.push((await client.put(body)).name);
      cluster.server(1).damage = damage;
      cluster.server(2).damage = damage;
      for (const [i, name] of names.entries())
        assert.ok((await (await client.get(name)).bytes()).equals(bodies[i]!));
      assert.ok(corrupt.length > 0 && corrupt.every((server) => server !== 3), corrupt.join());
    });
  }

  test('all replicas damaged: CORRUPT, not missing and not "try again"', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const { name } = await client.put(randomBytes(300));
    for (const server of cluster.servers) server.damage = 'told';
    await rejects(client.get(name), 'CORRUPT');
  });

  test('nobody there: UNAVAILABLE, never "not found"', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const { name } = await client.put(randomBytes(300));
    for (const server of cluster.servers) server.down = true;
    const error = await rejects(client.get(name), 'UNAVAILABLE');
    assert.is(error.httpStatus, 503);
    assert.ok(error.retryAfterMs! > 0);
  });

  test('"don\'t know" of all is 503; of some it changes nothing', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const { key } = await client.put(randomBytes(300));
    const wrong = { ...key, cookie: (key.cookie ^ 1) as typeof key.cookie };
    for (const server of cluster.servers) server.mode = 'unsure';
    const error = await rejects(client.get(wrong), 'DONT_KNOW');
    assert.is(error.httpStatus, 503);
    cluster.server(3).mode = 'current';
    await rejects(client.get(wrong), 'NOT_FOUND');
  });

  test('"not found" of a current replica is final', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const { name } = await client.put(randomBytes(300));
    await client.remove(name);
    const before = sum(reads(cluster));
    await rejects(client.get(name), 'NOT_FOUND');
    assert.is(sum(reads(cluster)) - before, 1);
  });

  test('a provisional answer is used only where no current replica answers', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const body = randomBytes(300);
    const { name, key } = await client.put(body);
    await client.remove(name);
    // Two replicas missed the delete and do not know whether they are behind.
    for (const id of [1, 2]) {
      cluster.server(id).mode = 'provisional';
      cluster.server(id).staleFlags.set(key.fileId, 0);
    }
    for (let i = 0; i < 5; i++) await rejects(client.get(name), 'NOT_FOUND');
    const forced = await client.get(name, { force: true });
    assert.is(forced.facts.nameFlags, NameFlag.DELETED);
    cluster.server(3).down = true;
    const stale = await client.get(name);
    assert.is(stale.facts.provisional, true);
    assert.ok((await stale.bytes()).equals(body));
  });

  test('a provisional picture is confirmed by flags alone', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const { name } = await client.put(randomBytes(300));
    for (const id of [1, 2]) cluster.server(id).mode = 'provisional';
    let asked = 0;
    for (let i = 0; i < 4; i++) {
      const before = sum(reads(cluster));
      assert.is((await client.get(name)).facts.provisional, false);
      asked = Math.max(asked, sum(reads(cluster)) - before);
    }
    assert.is(asked, 1);
  });

  test('a replica that hangs does not hold up the reader for long', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const body = randomBytes(300);
    const { name } = await client.put(body);
    let release: () => void = () => undefined;
    const hung = new Promise<void>((resolve) => {
      release = resolve;
    });
    t.defer(() => release());
    for (const id of [1, 2]) cluster.server(id).before = () => hung;
    assert.ok((await (await client.get(name)).bytes()).equals(body));
  });

  test('a block that moved is found again', async (t) => {
    const cluster = new FakeCluster({ servers: 4 });
    const client = await open(t, cluster);
    const body = randomBytes(300);
    const { name, key } = await client.put(body);
    const block = cluster.blocks.get(key.block)!;
    const stranger = cluster.servers.find((server) => !block.members.includes(server.id));
    // Four members in this fake: move it away from three of them.
    block.members = [stranger?.id ?? (4 as ServerId)];
    assert.ok((await (await client.get(name)).bytes()).equals(body));
  });

  test('a NameServer outage stops no read of a block whose place is known', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const body = randomBytes(300);
    const { name } = await client.put(body);
    cluster.nameservers[0]!.down = true;
    assert.ok((await (await client.get(name)).bytes()).equals(body));
    const other = await open(t, cluster);
    await rejects(other.get(name), 'UNAVAILABLE');
  });

  test('the standby answers for blocks it knows, but never "absent"', async (t) => {
    const cluster = new FakeCluster({ nameservers: 2 });
    const client = await open(t, cluster);
    const body = randomBytes(300);
    const { name, key } = await client.put(body);
    cluster.nameservers[0]!.down = true;
    const other = await open(t, cluster);
    assert.ok((await (await other.get(name)).bytes()).equals(body));
    await rejects(other.get({ ...key, block: 0x7_0000 as BlockId }), 'DONT_KNOW');
  });

  test('blocks asked for in one turn travel in one question', async (t) => {
    const cluster = new FakeCluster();
    const writer = await open(t, cluster);
    const names: string[] = [];
    for (let i = 0; i < 30; i++) names.push((await writer.put(randomBytes(50))).name);
    const client = await open(t, cluster);
    await client.ready(2000);
    await Promise.all(names.map((name) => client.get(name)));
    const asked = cluster.nameservers[0]!.calls.filter((op) => op === Op.LOCATE).length;
    assert.is(asked, 1);
  });
});

describe('client: writes that fail', (test) => {
  test('goes on with the next server, with the same opId', async (t) => {
    const cluster = new FakeCluster();
    let retries = 0;
    const client = await open(t, cluster, { events: { retry: () => void retries++ } });
    await client.ready(2000);
    cluster.server(1).down = true;
    // Which server is asked first is drawn: one in three draws asks the one that is down.
    for (let i = 0; i < 12 || (retries === 0 && i < 1000); i++) {
      const stored = await client.put(randomBytes(100));
      assert.is.not(stored.key.block & 0xffff, 1);
    }
    assert.ok(retries >= 1 && retries <= 3, `${retries}`);
  });

  test('a retry that reaches the server which stored it the first time gets the first name', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const opId = randomBytes(16);
    const body = randomBytes(100);
    const first = await client.put(body, { opId });
    const again = await client.put(body, { opId });
    assert.is(again.name, first.name);
    assert.is(again.replayed, true);
    assert.is(again.deduplicated, first.deduplicated);
  });

  test('servers to avoid are asked last', async (t) => {
    const cluster = new FakeCluster({ servers: 4 });
    const client = await open(t, cluster);
    await client.ready(2000);
    const asked: number[] = [];
    for (const server of cluster.servers)
      server.before = (op) => {
        if (op !== Op.PUT) return;
        asked.push(server.id);
        if (asked.length > 1) return;
        const avoid = cluster.servers
          .map((s) => s.id)
          .filter((id) => id !== server.id && id !== last(server.id));
        throw new TfsError('RETRY_ELSEWHERE', 'members failed', { details: { avoid } });
      };
    const last = (id: number): number => (id === 4 ? 1 : 4);
    await client.put(randomBytes(100));
    assert.equal(asked.slice(1), [last(asked[0]!)]);
  });

  test('what is wrong with the request is not tried elsewhere', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    for (const server of cluster.servers) server.refusePut = new TfsError('TOO_LARGE', 'too large');
    await rejects(client.put(randomBytes(100)), 'TOO_LARGE');
    assert.is(sum(cluster.servers.map((server) => server.count(Op.PUT))), 1);
  });

  test('a cluster that recovers within the budget takes the write', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    await client.ready(2000);
    for (const server of cluster.servers) server.refusePut = new TfsError('NO_WRITE_SET', 'too few');
    const putting = client.put(randomBytes(100));
    await nodeClock.sleep(150);
    for (const server of cluster.servers) server.refusePut = undefined;
    assert.is((await putting).members.length, 3);
  });

  test('a budget of attempts ends it with 503', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    for (const server of cluster.servers) server.refusePut = new TfsError('NO_WRITE_SET', 'too few');
    const error = await rejects(client.put(randomBytes(100)), 'NO_WRITE_SET');
    assert.is(error.httpStatus, 503);
    assert.ok(sum(cluster.servers.map((server) => server.count(Op.PUT))) <= PUT_ATTEMPTS_MAX);
  });
});

describe('client: delete, undelete, hide, reveal', (test) => {
  test('are independent and idempotent', async (t) => {
    const client = await open(t, new FakeCluster());
    const { name } = await client.put(randomBytes(100));
    await client.remove(name);
    await client.remove(name);
    await client.hide(name);
    await client.undelete(name);
    await rejects(client.get(name), 'NOT_FOUND');
    assert.is((await client.check(name)).nameFlags, NameFlag.HIDDEN);
    await client.reveal(name);
    await client.reveal(name);
    assert.is((await client.get(name)).facts.nameFlags, 0);
  });

  test('after a purge: undelete is GONE, a repeated delete succeeds', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const { name, key } = await client.put(randomBytes(100));
    await client.remove(name);
    cluster.blocks.get(key.block)!.records.get(key.fileId)!.flags |= NameFlag.PURGED;
    await rejects(client.undelete(name), 'GONE');
    await client.remove(name);
  });

  test('finds the server that orders a block again when it changed', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const { name, key } = await client.put(randomBytes(100));
    const block = cluster.blocks.get(key.block)!;
    block.opsPrimary = block.members[1]!;
    await client.remove(name);
    await rejects(client.get(name), 'NOT_FOUND');
  });

  test('asks another member where the one that orders a block is cut off from the leader', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    const { name, key } = await client.put(randomBytes(100));
    const block = cluster.blocks.get(key.block)!;
    const [first, ...others] = [...block.members].sort((a) => (a === block.opsPrimary ? -1 : 1));
    cluster.server(first!).before = (op) => {
      if (op === Op.MUTATE)
        throw new TfsError('UNAVAILABLE', 'no leading NameServer is known', {
          details: { leaderless: true },
        });
    };
    // It has the leader let it take the place of the other one.
    for (const other of others)
      cluster.server(other).before = (op) => {
        if (op === Op.MUTATE) block.opsPrimary = other;
      };
    await client.remove(name);
    assert.is(cluster.server(first!).calls.filter((op) => op === Op.MUTATE).length, 1);
    assert.ok(others.includes(block.opsPrimary!));
  });

  test('an unknown name is NOT_FOUND', async (t) => {
    const client = await open(t, new FakeCluster());
    const { key } = await client.put(randomBytes(100));
    await rejects(client.remove({ ...key, fileId: 99 as typeof key.fileId }), 'NOT_FOUND');
  });
});

describe('client: the cluster map', (test) => {
  test('of another cluster is refused', async (t) => {
    const client = await open(t, new FakeCluster(), { clusterUuid: '00'.repeat(16) });
    assert.is(await client.ready(300), false);
    const error = await rejects(client.put(randomBytes(10)), 'UNAVAILABLE');
    assert.match(error.message, /belongs to cluster/);
  });

  test('follows servers that come', async (t) => {
    const cluster = new FakeCluster();
    const client = await open(t, cluster);
    await client.ready(2000);
    assert.is(client.isWritable, true);
    cluster.server(2).down = true;
    cluster.server(3).down = true;
    cluster.mapVersion++;
    await client.readClusterMap();
    assert.is(client.isWritable, false);
  });
});
