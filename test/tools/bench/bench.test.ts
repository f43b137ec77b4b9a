import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { imageSize } from 'image-size';
import * as assert from 'uvu/assert';
import { pictureOf } from '../../../tools/bench/picture.ts';
import { cpuMicros, processIo, residentBytes } from '../../../tools/bench/proc.ts';
import { formatTable, ratio } from '../../../tools/bench/table.ts';
import { describe } from '../../kit/suite.ts';

const MAIN = join(import.meta.dirname, '..', '..', '..', 'tools', 'bench', 'main.ts');
const bench = (...args: string[]) =>
  promisify(execFile)(process.execPath, ['--import', 'tsx', MAIN, ...args], { encoding: 'utf8' });

describe('bench', (test) => {
  test('the help names every benchmark', async () => {
    const { stdout } = await bench('--help');
    for (const name of ['rpc', 'get', 'put', 'dedup', 'cold', 'index', 'block-map', 'restart', 'renditions'])
      assert.match(stdout, new RegExp(`^  ${name} `, 'm'));
  });

  test('an unknown benchmark and a senseless number are errors that say so', async () => {
    for (const [args, why] of [
      [['nonsense'], 'nonsense'],
      [['rpc', '--seconds', '0'], 'above 0'],
    ] as const) {
      const failure = await bench(...args).catch((error: { code: number; stderr: string }) => error);
      assert.is((failure as { code: number }).code, 1);
      assert.match((failure as { stderr: string }).stderr, why);
    }
  });

  test('a benchmark prints a table with ratios, and ends', async () => {
    const { stdout } = await bench('rpc', '--seconds', '0.05');
    assert.match(stdout, /^read 10 KB, frames .* x$/m);
    assert.match(stdout, /calls\/s/);
  });
}, 60_000);

describe('bench tables', (test) => {
  test('columns line up, numbers get the digits they deserve, nothing is a dash', () => {
    const text = formatTable({
      title: 'T',
      columns: ['', 'a', 'ratio'],
      rows: [
        ['first', 1234.5678, '0.50 x'],
        ['second one', 1.234, undefined],
        ['whole', 12, ratio(1, 0)],
      ],
      notes: ['a note'],
    });
    assert.is(
      text,
      [
        '## T',
        '',
        '                a   ratio',
        '----------  -----  ------',
        'first       1,235  0.50 x',
        'second one   1.23       -',
        'whole          12       -',
        '  a note',
        '',
      ].join('\n'),
    );
  });

  test('a ratio of something to nothing is left out', () => {
    assert.is(ratio(3, 4), '0.75 x');
    assert.is(ratio(undefined, 4), undefined);
    assert.is(ratio(3, undefined), undefined);
  });
});

describe('bench pictures', (test) => {
  test('they have their size, differ by their number, and are taken for pictures', () => {
    for (const size of [64, 1024, 102_400]) {
      const picture = pictureOf(7, size);
      assert.is(picture.length, size);
      assert.not.equal(picture, pictureOf(8, size));
      assert.equal(imageSize(picture).type, 'png');
    }
  });
});

describe('bench counters', (test) => {
  test('what the system counts for this process can be read', () => {
    const before = cpuMicros(process.pid);
    // However little of the machine this process gets, its time adds up to a tick; the runner's limit bounds it.
    while (cpuMicros(process.pid) === before);
    assert.ok(residentBytes(process.pid) > 1 << 20);
    assert.ok(processIo(process.pid).readCalls > 0);
  });
});
