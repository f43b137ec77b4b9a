import { readdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import * as assert from 'uvu/assert';
import {
  collectMarks,
  forgetMarks,
  listenToMarks,
  MARKS,
  mark,
  marksReached,
  wasReached,
} from '../../common/marks.ts';
import { describe } from '../kit/suite.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const sources = ['common', 'nameserver', 'dataserver', 'client'].flatMap((folder) =>
  readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && path.join(folder, file) !== 'common/marks.ts')
    .map((file) => readFileSync(path.join(ROOT, folder, file), 'utf8')),
);

describe('marks', (test) => {
  test('are counted from when somebody collects until it is over', (t) => {
    t.defer(forgetMarks);
    mark('ops-merged');
    assert.is(marksReached().size, 0);
    collectMarks();
    assert.is(marksReached().size, 0, 'what was before does not count');
    mark('ops-merged');
    mark('ops-merged');
    mark('retry-elsewhere');
    assert.equal(
      [...marksReached()],
      [
        ['ops-merged', 2],
        ['retry-elsewhere', 1],
      ],
    );
    collectMarks();
    mark('retry-elsewhere');
    assert.equal([...marksReached()], [['retry-elsewhere', 1]]);
    assert.equal([wasReached('retry-elsewhere'), wasReached('ops-merged')], [true, false]);
    forgetMarks();
    mark('retry-elsewhere');
    assert.is(marksReached().size, 0);
  });

  test('are told to somebody who listens, until it is over', (t) => {
    t.defer(forgetMarks);
    const told: string[] = [];
    const listen = () => listenToMarks((name, times) => told.push(`${name} ${times}`));
    collectMarks();
    mark('ops-merged');
    listen();
    mark('ops-merged');
    listenToMarks(undefined);
    mark('ops-merged');
    listen();
    forgetMarks();
    collectMarks();
    mark('ops-merged');
    assert.equal(told, ['ops-merged 2']);
  });

  test('are all somewhere in the code, and say what they mean', () => {
    const kinds = new Set(
      sources.flatMap((source) => [...source.matchAll(/kind: '([a-z-]+)'/g)].map(([, kind]) => kind!)),
    );
    for (const [name, meaning] of Object.entries(MARKS)) {
      const dropped = /^drop-refused-(.+)$/.exec(name)?.[1];
      const isPlaced =
        dropped === undefined
          ? sources.some((source) => new RegExp(`mark\\([^)]*'${name}'`).test(source))
          : kinds.has(dropped);
      assert.ok(isPlaced, `${name} is marked nowhere`);
      assert.ok(meaning.length > 20, name);
    }
  });
});
