import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { ProcessCluster } from '../kit/process-cluster.ts';
import { describe } from '../kit/suite.ts';
import { type Acked, UploadLoad, verifyAcked } from '../kit/upload-load.ts';

const ROUNDS = Number(process.env['TFS_KILL_ROUNDS'] ?? 3);

describe('kill -9 of every process under load', (test) => {
  test('no acknowledged picture is lost or altered, no delete undone, and it is writable again', async (t) => {
    const cluster = await ProcessCluster.start();
    t.defer(() => cluster.destroy());
    const acked: Acked[] = [];
    let slowestMs = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const load = new UploadLoad(cluster);
      await sleep(1500 + Math.random() * 1000);
      await cluster.killAll();
      await load.stop();
      acked.push(...load.acked);
      assert.ok(load.acked.length > 0, `round ${round} stored something`);
      const startedAt = performance.now();
      await cluster.startAll();
      await cluster.writable();
      slowestMs = Math.max(slowestMs, performance.now() - startedAt);
      const wrong = await verifyAcked(cluster, acked);
      assert.equal(
        wrong,
        [],
        `round ${round}: ${wrong.length} of ${acked.length} wrong\n${wrong.length > 0 ? cluster.logs() : ''}`,
      );
    }
    console.log(
      `\nFIGURE ${ROUNDS} rounds, ${acked.length} acked pictures, writable again within ${Math.round(slowestMs)} ms`,
    );
  });

  test('one DataServer at a time: reads go on, writes go on, nothing is lost', async (t) => {
    const cluster = await ProcessCluster.start();
    t.defer(() => cluster.destroy());
    const load = new UploadLoad(cluster, 4);
    t.defer(() => load.stop());
    for (const name of ['ds1', 'ds2', 'ds3'] as const) {
      await sleep(700);
      await cluster.stopOne(name, 'SIGKILL');
      await sleep(300);
      const sample = load.acked.filter((picture) => !picture.deleted).slice(-20);
      const wrong = await verifyAcked(cluster, sample, 4);
      assert.equal(wrong, [], `with ${name} down`);
      await cluster.startOne(name);
      await cluster.writable();
    }
    await load.stop();
    const wrong = await verifyAcked(cluster, load.acked);
    assert.equal(wrong, [], cluster.logs());
  });
}, 240_000);
