import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { type BlockId, blockId, type ServerId, serverId } from '../../common/ids.ts';
import type { ClusterMap, ServerInfo, VerifyReply } from '../../common/wire/control.ts';
import { type BlockEntry, BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { awaitRepair } from '../../tools/verify/await-repair.ts';
import { lostRecords } from '../../tools/verify/findings.ts';
import type { Operator } from '../../tools/verify/operator.ts';
import { planReads } from '../../tools/verify/plan.ts';
import { type Survey, survey } from '../../tools/verify/survey.ts';
import { RushingClock } from '../kit/block-world.ts';
import { describe } from '../kit/suite.ts';
import { entryOf } from '../nameserver/entries.ts';

const A = 0x2_0001;
const B = 0x2_0002;
const sealed = (block: number, overrides: Parameters<typeof entryOf>[0] = {}): BlockEntry =>
  entryOf({ block, state: BlockState.SEALED, length: 5000, ...overrides });

/** Servers that answer as a test says. */
class FakeServers implements Operator {
  readonly tables = new Map<ServerId, BlockEntry[]>();
  readonly down = new Set<number>();
  /** By "server/block". */
  readonly problems = new Map<string, string[]>();
  readonly digests = new Map<string, string>();
  readonly verified: string[] = [];
  onList: (server: ServerId) => void = () => undefined;

  constructor(servers = 3) {
    for (let id = 1; id <= servers; id++) this.tables.set(serverId(id), [sealed(A), sealed(B)]);
  }

  async map(): Promise<ClusterMap> {
    const servers = [...this.tables.keys()].map(
      (id) => ({ id, state: this.down.has(id) ? 'down' : 'up' }) as ServerInfo,
    );
    return { servers } as unknown as ClusterMap;
  }

  async list({ id }: ServerInfo): Promise<BlockEntry[]> {
    this.onList(id);
    return this.tables.get(id)!;
  }

  async verify({ id }: ServerInfo, block: BlockId): Promise<VerifyReply> {
    const key = `${id}/${block}`;
    this.verified.push(key);
    if (!this.tables.get(id)!.some((entry) => entry.block === block))
      throw new TfsError('DONT_KNOW', 'not here');
    const problems = this.problems.get(key) ?? [];
    const digest = problems.length > 0 ? undefined : (this.digests.get(key) ?? 'ab'.repeat(32));
    return { records: 10, bytes: 5000, digest, problems, problemCount: problems.length } as VerifyReply;
  }

  survey(allReplicas = true): Promise<Survey> {
    const nothing = () => undefined;
    return survey(this, {
      allReplicas,
      onStart: nothing,
      onProgress: nothing,
      onFinding: nothing,
      onUnread: nothing,
    });
  }
}

const linesOf = ({ findings, differing }: Survey): string[] =>
  [...findings, ...differing].map(({ server, block, problem }) => `${server}/${block}: ${problem}`);

describe('tfs verify', (test) => {
  test('every replica is read, or one of each block, spread over the servers', async () => {
    const cluster = new FakeServers();
    const all = await cluster.survey();
    assert.equal(linesOf(all), []);
    assert.equal([all.blocks, all.replicas, all.records, all.bytes], [2, 6, 60, 30_000]);
    cluster.verified.length = 0;
    const one = await cluster.survey(false);
    assert.equal([one.blocks, one.replicas], [2, 2]);
    assert.is(new Set(cluster.verified.map((key) => key.split('/')[0])).size, 2);
  });

  test('one replica of each block: a suspect one only where there is no other', () => {
    const suspect = { flags: BlockFlag.SUSPECT };
    const tables = new Map([
      [serverId(1), [sealed(A, suspect), sealed(B, suspect)]],
      [serverId(2), [sealed(A), sealed(B, suspect)]],
    ]);
    const { tasks } = planReads(tables, false);
    assert.equal(
      tasks.map(({ server, entry }) => [entry.block, server]),
      [
        [A, 2],
        [B, 1 + (B % 2)],
      ],
    );
  });

  test('a damaged record, a missing replica, a server that is down', async () => {
    const cluster = new FakeServers();
    cluster.problems.set(`2/${A}`, ['bytes 4096 to 4200 (slot 0): payload checksum mismatch']);
    cluster.tables.set(serverId(1), [sealed(A)]);
    cluster.down.add(3);
    const found = await cluster.survey();
    assert.equal(linesOf(found).sort(), [
      `1/${B}: the replica is missing`,
      `2/${A}: bytes 4096 to 4200 (slot 0): payload checksum mismatch`,
    ]);
    assert.equal(found.unread, [3]);
  });

  test('a member that lacks a block which nobody has sealed is not missing: it is being made', () => {
    const tables = new Map([
      [serverId(1), [entryOf({ block: A })]],
      [serverId(2), []],
    ]);
    assert.equal(planReads(tables, true).missing, []);
  });

  test('a block that was dropped meanwhile is no damage', async () => {
    const cluster = new FakeServers();
    let lists = 0;
    cluster.onList = () => {
      if (++lists === 3) for (const table of cluster.tables.values()) table.length = 1;
    };
    assert.equal(linesOf(await cluster.survey()), []);
  });

  test('replicas that are sound and differ', async () => {
    const cluster = new FakeServers();
    cluster.digests.set(`3/${B}`, 'cd'.repeat(32));
    const found = await cluster.survey();
    assert.is(found.findings.length, 0);
    assert.is(found.differing.length, 3);
    assert.match(linesOf(found).join('\n'), `3/${B}: replicas differ: the digest here is cdcd`);
  });

  test('waits for repairs: a replica counts when it is no longer suspect and was read once more', async () => {
    const cluster = new FakeServers();
    const line = 'bytes 4096 to 4200 (slot 0): payload checksum mismatch';
    cluster.problems.set(`2/${A}`, [line, 'bytes 0 to 4096: the superblock is damaged']);
    cluster.problems.set(`3/${B}`, [line]);
    cluster.tables.set(serverId(2), [sealed(A, { flags: BlockFlag.SUSPECT }), sealed(B)]);
    cluster.tables.set(serverId(3), [sealed(A), sealed(B, { flags: BlockFlag.SUSPECT })]);
    const found = await cluster.survey();
    const repaired: string[] = [];
    let looks = 0;
    cluster.onList = (server) => {
      if (server !== 2 || ++looks < 4) return;
      cluster.tables.set(serverId(2), [sealed(A), sealed(B)]);
      // The first look after the flag has gone finds one thing left.
      cluster.problems.set(`2/${A}`, looks === 4 ? [line] : []);
    };
    const left = await awaitRepair(cluster, found, {
      waitMs: 10_000,
      clock: new RushingClock(),
      onRepaired: (server, block) => repaired.push(`${server}/${block}`),
    });
    assert.equal(repaired, [`2/${A}`]);
    assert.equal(left, [{ server: 3, block: B, problem: line }]);
  });

  test('a record is lost when every replica that was read has it damaged', () => {
    const record = (server: number, slot: number, what = 'payload checksum mismatch') => ({
      server: serverId(server),
      block: blockId(A),
      problem: `bytes ${4096 + slot * 100} to ${4196 + slot * 100} (slot ${slot}): ${what}`,
    });
    const holders = new Map([[blockId(A), 2]]);
    assert.is(lostRecords([record(1, 0), record(2, 1)], holders), 0);
    assert.is(lostRecords([record(1, 0), record(2, 0, 'no valid header'), record(2, 1)], holders), 1);
    const pad = 'the padding behind the payload is not zero';
    assert.is(lostRecords([record(1, 0, pad), record(2, 0, pad)], holders), 0);
  });
});
