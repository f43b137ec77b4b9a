import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { openLog, SECRET_KEYS, silentLog } from '../../common/log.ts';
import { describe } from '../kit/suite.ts';

function recording() {
  const lines: string[] = [];
  const log = openLog({ kind: 'dataserver', id: '7', write: (line) => void lines.push(line) });
  return { log, lines, last: () => JSON.parse(lines.at(-1) ?? '{}') as Record<string, unknown> };
}

describe('log', (test) => {
  test('writes one JSON line for each record, with who, when, level and facts', () => {
    const { log, lines, last } = recording();
    log.info({ block: 12 }, 'sealed');
    assert.is(lines.length, 1);
    assert.is(lines[0]?.indexOf('\n'), (lines[0]?.length ?? 0) - 1);
    const { kind, id, pid, level, message, block, time } = last();
    assert.equal(
      { kind, id, pid, level, message, block },
      {
        kind: 'dataserver',
        id: '7',
        pid: process.pid,
        level: 'info',
        message: 'sealed',
        block: 12,
      },
    );
    assert.is(Number.isNaN(Date.parse(String(time))), false);
    log.warn('a message alone\nwith two lines');
    assert.is(lines.length, 2);
    assert.is(last()['message'], 'a message alone\nwith two lines');
  });

  test('writes an error with its code, stack and causes', () => {
    const { log, last } = recording();
    log.error({ err: new TfsError('IO', 'read failed', { cause: new Error('EIO') }) }, 'a disk');
    const err = last()['err'] as Record<string, unknown>;
    assert.is(err['code'], 'IO');
    assert.match(String(err['stack']), 'read failed');
    assert.match(String(err['stack']), 'EIO');
  });

  test('never writes a secret, at any of the depths that are logged', () => {
    const { log, lines } = recording();
    for (const key of SECRET_KEYS) {
      log.info({ [key]: 'hunter2' }, 'flat');
      log.info({ request: { [key]: 'hunter2' } }, 'nested');
      log.info({ request: { headers: { [key]: 'hunter2' } } }, 'deep');
      log.child({ [key]: 'hunter2' }).info('inherited');
    }
    assert.is(lines.length, 4 * SECRET_KEYS.length);
    assert.is(
      lines.some((line) => line.includes('hunter2')),
      false,
    );
    assert.is(
      lines.every((line) => line.includes('[redacted]')),
      true,
    );
  });

  test('a level holds from when it is set, and for children made after it', () => {
    const { log, lines, last } = recording();
    log.debug('unseen');
    log.setLevel('debug');
    log.debug('seen');
    log.child({ part: 'x' }).debug('seen too');
    assert.is(last()['part'], 'x');
    log.setLevel('error');
    log.warn('unseen');
    assert.is(lines.length, 2);
  });

  test('the silent log and its children say nothing', () => {
    assert.is(silentLog.child({ a: 1 }), silentLog);
    assert.is(silentLog.error({ a: 1 }, 'x'), undefined);
  });
});
