import * as assert from 'uvu/assert';
import { isTfsError } from '../../common/errors.ts';
import { readDurable, writeDurable } from '../../dataserver/durable-file.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { describe } from '../kit/suite.ts';

const PATH = 'nonces.tfs';

describe('a small file that is replaced as a whole', (test) => {
  test('a disk that fails at any call leaves the old one or the new one, and nothing beside it', async () => {
    for (const code of ['IO', 'DISK_FULL'] as const)
      for (let nth = 1; ; nth++) {
        const disk = new RecordingDisk();
        await writeDurable(disk, PATH, { n: 1 });
        const failure = { nth, code, kinds: ['write', 'sync', 'name'] as const };
        disk.failure = failure;
        const error = await writeDurable(disk, PATH, { n: 2 }).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        disk.failure = undefined;
        assert.ok(error === undefined || isTfsError(error, code), String(error));
        const { n } = (await readDurable(disk, PATH)) as { n: number };
        assert.ok(error === undefined ? n === 2 : n === 1 || n === 2, `${code} at call ${nth}: ${n}`);
        assert.equal(await disk.list(''), [PATH], `${code} at call ${nth}`);
        if (error === undefined) break;
      }
  });
});
