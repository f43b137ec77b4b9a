import { appendFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { isTfsError } from '../../../common/errors.ts';
import { Manifest } from '../../../tools/import/manifest.ts';
import { describe } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

const file = (path: string, size = 10, mtimeMs = 1) => ({ path, size, mtimeMs });
const lines = (path: string) => readFileSync(path, 'utf8').split('\n').filter(Boolean);

describe('manifest of an import', (test) => {
  test('remembers what was done with each file, and forgets it when the file changed', async (t) => {
    const path = join(tempDir(t), 'm.jsonl');
    const first = await Manifest.open(path, '/pictures');
    await first.append({ ...file('a.png'), name: 'T1a' });
    await first.append({ ...file('b.txt'), skipped: 'not a picture' });
    await first.close();
    const again = await Manifest.open(path, '/pictures');
    t.defer(() => again.close());
    assert.is(again.id, first.id);
    assert.is(again.find(file('a.png'))?.name, 'T1a');
    assert.is(again.find(file('b.txt'))?.skipped, 'not a picture');
    assert.is(again.find(file('c.png')), undefined);
    assert.is(again.find(file('a.png', 11)), undefined);
    assert.is(again.find(file('a.png', 10, 2)), undefined);
  });

  test('cut anywhere it still opens, and knows every line that was whole', async (t) => {
    const path = join(tempDir(t), 'm.jsonl');
    const manifest = await Manifest.open(path, '/pictures');
    for (let i = 0; i < 5; i++) await manifest.append({ ...file(`${i}.png`), name: `T${i}` });
    await manifest.close();
    const text = readFileSync(path, 'utf8');
    const head = text.indexOf('\n') + 1;
    for (let length = text.length - 1; length >= head; length -= 7) {
      writeFileSync(path, text);
      truncateSync(path, length);
      const whole = text.slice(0, length).split('\n').length - 2;
      const cut = await Manifest.open(path, '/pictures');
      for (let i = 0; i < 5; i++) assert.is(cut.find(file(`${i}.png`)) !== undefined, i < whole);
      await cut.append({ ...file('next.png'), name: 'Tn' });
      await cut.close();
      // The torn line is gone: what follows it is not glued to it.
      assert.is(lines(path).length, 1 + whole + 1);
      for (const line of lines(path)) JSON.parse(line);
    }
  });

  test('many at once are all written, each durable when its promise resolves', async (t) => {
    const path = join(tempDir(t), 'm.jsonl');
    const manifest = await Manifest.open(path, '/pictures');
    t.defer(() => manifest.close());
    const names = Array.from({ length: 200 }, (_, i) => `${i}.png`);
    await Promise.all(
      names.map(async (name) => {
        await manifest.append({ ...file(name), name: 'T' });
        assert.ok(readFileSync(path, 'utf8').includes(`"${name}"`));
      }),
    );
    assert.is(lines(path).length, 201);
  });

  test('a file that is something else, or the manifest of another directory, is not touched', async (t) => {
    const path = join(tempDir(t), 'm.jsonl');
    const refused = async (code: 'CONFIG' | 'CONFLICT', directory = '/pictures') => {
      const before = readFileSync(path);
      const error = await Manifest.open(path, directory).catch((thrown: unknown) => thrown);
      assert.ok(isTfsError(error, code), String(error));
      assert.equal(readFileSync(path), before);
    };
    writeFileSync(path, 'dear diary\n');
    await refused('CONFIG');
    writeFileSync(path, '{"manifest":2}\n');
    await refused('CONFIG');
    writeFileSync(path, '');
    await (await Manifest.open(path, '/pictures')).close();
    appendFileSync(path, 'a line of something else\n');
    await refused('CONFLICT', '/elsewhere');
    await (await Manifest.open(path, '/pictures')).close();
  });
});
