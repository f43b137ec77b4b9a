import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { isTfsError } from '../../common/errors.ts';
import { serverId } from '../../common/ids.ts';
import { formatMount, MOUNT_FILE, nextIncarnation, openMount, readMount } from '../../dataserver/mount.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { describe, type TestContext } from '../kit/suite.ts';

const clusterUuid = '00112233445566778899aabbccddeeff';
const server = serverId(7);

function place(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'tfs-mount-'));
  t.defer(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    assert.ok(isTfsError(error, 'REFUSED'), String(error));
    return (error as Error).message;
  }
  throw new Error('it was not refused');
}

describe('mount', (test) => {
  test('a formatted directory opens for its owner and nobody else', async (t) => {
    const path = place(t);
    await formatMount({ path, clusterUuid, server });
    assert.is((await readMount(path))?.server, server);
    await openMount({ path, clusterUuid, server });
    assert.match(
      await refusal(openMount({ path, clusterUuid: 'f'.repeat(32), server })),
      /belongs to cluster 0011/,
    );
    assert.match(
      await refusal(openMount({ path, clusterUuid, server: serverId(8) })),
      /disk of DataServer 7/,
    );
  });

  test('a directory that holds anything is never formatted, and is left as it was', async (t) => {
    const path = place(t);
    writeFileSync(join(path, 'holiday.jpg'), 'x');
    assert.match(await refusal(formatMount({ path, clusterUuid, server })), /not empty.*holiday\.jpg/);
    assert.equal(readdirSync(path), ['holiday.jpg']);
    const mine = place(t);
    await formatMount({ path: mine, clusterUuid, server });
    assert.match(await refusal(formatMount({ path: mine, clusterUuid, server })), /formatted already/);
  });

  test('an unformatted, missing or damaged mount is refused with what to do', async (t) => {
    const path = place(t);
    assert.match(await refusal(openMount({ path, clusterUuid, server })), /tfs format/);
    assert.match(await refusal(openMount({ path: join(path, 'no'), clusterUuid, server })), /mounted\?/);
    await formatMount({ path, clusterUuid, server });
    writeFileSync(join(path, MOUNT_FILE), '');
    assert.match(await refusal(openMount({ path, clusterUuid, server })), /empty/);
  });

  test('incarnations grow by one at each start, and a damaged one refuses', async (t) => {
    const path = place(t);
    await formatMount({ path, clusterUuid, server });
    const { disk } = await openMount({ path, clusterUuid, server });
    assert.is(await nextIncarnation(disk), 1);
    assert.is(await nextIncarnation(disk), 2);
    assert.is(await nextIncarnation((await openMount({ path, clusterUuid, server })).disk), 3);
    writeFileSync(join(path, 'incarnation.tfs'), '00000000 {"incarnation":3}\n');
    assert.match(await refusal(nextIncarnation(disk)), /damaged/);
  });

  test('a DataServer starts on a full disk, with the space that is kept for deletions', async () => {
    const disk = new RecordingDisk();
    await disk.mkdir('blocks');
    assert.is(await nextIncarnation(disk), 1);
    disk.plant('blocks/ops.reserve', Buffer.alloc(128 * 1024));
    disk.capacityBytes = disk.usedBytes;
    assert.is(await nextIncarnation(disk), 2);
    assert.is((await disk.stat('blocks/ops.reserve'))?.size, 64 * 1024);
    assert.is(await nextIncarnation(disk), 3, 'which lasts');
    assert.is((await disk.stat('blocks/ops.reserve'))?.size, 64 * 1024);
    disk.plant('blocks/ops.reserve', Buffer.alloc(0));
    disk.capacityBytes = disk.usedBytes;
    const refused = await nextIncarnation(disk).catch((error: unknown) => error);
    assert.ok(isTfsError(refused, 'DISK_FULL'), 'there is nothing left to give');
  });
});
