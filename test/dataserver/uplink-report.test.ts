import * as assert from 'uvu/assert';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { UplinkReport } from '../../dataserver/uplink-report.ts';
import { VERSION } from '../kit/block-world.ts';
import { BLOCK, ReplicaWorld } from '../kit/replica-world.ts';
import { describe, type TestContext } from '../kit/suite.ts';

type ReportParts = Parameters<typeof UplinkReport.open>[0];

/** What the first server of the world says of its blocks. */
function reportOf(world: ReplicaWorld): Promise<UplinkReport> {
  const { store } = world.replicas[0]!;
  const options = { clock: { monotonic: () => 0 } };
  return UplinkReport.open({ store, options } as unknown as ReportParts);
}

async function sealed(t: TestContext, sizes: readonly number[]): Promise<ReplicaWorld> {
  const world = await ReplicaWorld.open(t, sizes);
  await world.seal();
  return world;
}

const wordsOf = (report: UplinkReport): number[][] =>
  report.entries().map(({ block, state, flags }) => [block, state, flags]);

describe('what a DataServer reports of its blocks', (test) => {
  test('a block that went because it held nothing is said to be gone, at once and in every whole report', async (t) => {
    const world = await sealed(t, []);
    const before = await reportOf(world);
    assert.equal(wordsOf(before), [[BLOCK, BlockState.SEALED, 0]]);
    const { store } = world.replicas[0]!;
    await store.drop({ block: BLOCK, generation: 0, version: VERSION, reason: 'retired' });
    assert.equal(wordsOf(before), [[BLOCK, BlockState.DROPPED, BlockFlag.RETIRED]]);
    assert.is(before.entry(BLOCK), undefined);
    assert.is(before.dropped(BLOCK).flags, BlockFlag.RETIRED);
    await world.restart(0);
    assert.equal(wordsOf(await reportOf(world)), [[BLOCK, BlockState.DROPPED, BlockFlag.RETIRED]]);
  });

  test('of another replica that was dropped nothing is said but that it is gone', async (t) => {
    const world = await sealed(t, [100, 8]);
    const { store } = world.replicas[0]!;
    const version = { epoch: VERSION.epoch, n: VERSION.n + 1 };
    await store.drop({ block: BLOCK, generation: 0, version, reason: 'excess' });
    const report = await reportOf(world);
    assert.equal(wordsOf(report), []);
    assert.equal([report.dropped(BLOCK).state, report.dropped(BLOCK).flags], [BlockState.DROPPED, 0]);
  });
});
