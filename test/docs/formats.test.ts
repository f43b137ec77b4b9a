import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { examplesOf, GOLDEN_DIRECTORY, goldenFiles, hexDump, readGolden } from '../kit/golden.ts';
import { describe } from '../kit/suite.ts';

const document = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'formats.md'), 'utf8');

describe('docs/formats.md', (test) => {
  test('the golden files are what the code writes', () => {
    const files = goldenFiles();
    assert.equal(readdirSync(GOLDEN_DIRECTORY).sort(), Object.keys(files).sort());
    for (const [name, bytes] of Object.entries(files)) assert.equal(readGolden(name), bytes, name);
  });

  test('every worked example is the bytes of a golden file', () => {
    const examples = examplesOf(document);
    assert.is(examples.length, (document.match(/<!-- golden /g) ?? []).length, 'every mark has its dump');
    assert.equal(
      [...new Set(examples.map((example) => example.file))].sort(),
      Object.keys(goldenFiles()).sort(),
    );
    for (const { file, start, end, text } of examples) {
      const bytes = readGolden(file);
      assert.ok(end <= bytes.length, `${file} has ${end} bytes`);
      assert.is(text, hexDump(bytes, start, end), `${file} ${start}`);
    }
  });

  test('a dump shows offsets, bytes and text, and folds zeros', () => {
    const bytes = Buffer.alloc(80);
    bytes.write('TFS', 64);
    assert.is(
      hexDump(bytes, 0, 80),
      [
        `000000  ${'00 '.repeat(16)} ................`,
        '*',
        `000040  54 46 53${' 00'.repeat(13)}  TFS.............`,
      ].join('\n'),
    );
  });
});
