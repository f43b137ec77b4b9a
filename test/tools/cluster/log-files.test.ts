import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { defaultConfig, parseConfig } from '../../../common/config.ts';
import { TfsError } from '../../../common/errors.ts';
import { openLog } from '../../../common/log.ts';
import { formatEntry, lastErrors, logFiles, parseLine, tailOf } from '../../../tools/cluster/log-files.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

function written(t: TestContext) {
  const config = parseConfig(defaultConfig({ uuid: '0'.repeat(32) }), tempDir(t));
  mkdirSync(join(config.home, 'logs'));
  const write = (process: string, text: string) =>
    writeFileSync(join(config.home, 'logs', `${process}.log`), text);
  return { config, write };
}

/** What a server writes for this. */
function line(level: 'info' | 'error', facts: object, message: string): string {
  let out = '';
  openLog({
    kind: 'dataserver',
    id: '1',
    write: (text) => {
      out = text;
    },
  })[level]({ ...facts }, message);
  return out;
}

describe('log files', (test) => {
  test('a line of a server is shown with its facts, and an error by its message', () => {
    const entry = parseLine('dataserver-1', line('info', { block: 7 }, 'sealed').trim());
    assert.equal([entry.level, entry.message, entry.facts], ['info', 'sealed', '{"block":7}']);
    assert.match(formatEntry(entry), /^20\d\d-.*Z info +dataserver-1 +sealed \{"block":7\}$/);
    const failed = line('error', { err: new TfsError('REFUSED', 'not mounted') }, 'refused to start');
    assert.is(parseLine('dataserver-1', failed.trim()).message, 'refused to start: not mounted');
  });

  test('a line of anything else is shown as it is', () => {
    for (const text of ['Ready to accept connections', '{"json": "of another kind"}', '{torn', 'null'])
      assert.equal(parseLine('redis', text), {
        process: 'redis',
        time: '',
        level: '',
        message: text,
        facts: '',
      });
  });

  test('files are chosen by words, and only their ends are read', async (t) => {
    const { config, write } = written(t);
    write('dataserver-1', Array.from({ length: 30_000 }, (_, i) => `line ${i}`).join('\n'));
    write('gateway', 'one\ntwo\n');
    assert.equal(
      (await logFiles(config, ['gate'])).map((file) => file.process),
      ['gateway'],
    );
    const [big] = await logFiles(config, ['dataserver']);
    const { entries } = await tailOf(big!, 2);
    assert.equal(
      entries.map((entry) => entry.message),
      ['line 29998', 'line 29999'],
    );
  });

  test('the last error of each process is found, and there may be no logs at all', async (t) => {
    const { config, write } = written(t);
    write('gateway', line('info', {}, 'ready'));
    write('dataserver-1', line('error', {}, 'first') + line('error', {}, 'last') + line('info', {}, 'ready'));
    assert.equal(await lastErrors(config, 5), ['dataserver-1: last']);
    assert.equal(await lastErrors({ ...config, home: '/nowhere' }, 5), []);
  });
});
