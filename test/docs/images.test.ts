import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { OPTION_NAMES } from '../../client/gateway/images/options.ts';
import { FITS, FORMATS, GRAVITIES, ROTATIONS } from '../../client/gateway/images/rendition.ts';
import { zImages } from '../../common/config-images.ts';
import { DOC_PICTURES, makeDocPicture } from '../../tools/docs/pictures.ts';
import { ROOT } from '../kit/run-from.ts';
import { describe } from '../kit/suite.ts';

const DIRECTORY = join(ROOT, 'docs', 'images');
const document = readFileSync(join(ROOT, 'docs', 'images.md'), 'utf8');
const lines = document.split('\n');

/** Of 255. Other processors round otherwise in the last place, and lossy formats make a little more of it. */
const MEAN_MAX = 1;
const MOST_MAX = 32;

const FILE_BYTES_MAX = 25_000;
const ALL_BYTES_MAX = 600_000;

/** Differences of all pixels of all frames, where format, size and number of frames are the same. */
async function difference(one: Buffer, other: Buffer): Promise<{ mean: number; most: number }> {
  const [a, b] = await Promise.all([one, other].map(pixelsOf));
  assert.equal(a!.facts, b!.facts);
  let [sum, most] = [0, 0];
  for (const [i, value] of a!.data.entries()) {
    const off = Math.abs(value - b!.data[i]!);
    sum += off;
    if (off > most) most = off;
  }
  return { mean: sum / a!.data.length, most };
}

async function pixelsOf(bytes: Buffer) {
  const { format, width, height, pages, hasAlpha } = await sharp(bytes, { animated: true }).metadata();
  // What is not seen may have any colour.
  const data = await sharp(bytes, { animated: true }).flatten({ background: '#808080' }).raw().toBuffer();
  return { facts: { format, width, height, pages, hasAlpha }, data };
}

describe('docs/images.md', (test) => {
  test('its pictures are what the code makes now', async () => {
    const made = await Promise.all(DOC_PICTURES.map(makeDocPicture));
    assert.equal(readdirSync(DIRECTORY).sort(), made.map(({ file }) => file).sort());
    for (const { file, bytes } of made) {
      const { mean, most } = await difference(readFileSync(join(DIRECTORY, file)), bytes);
      const text = `${file} is off by ${mean} and ${most}: npm run docs:images`;
      assert.ok(mean <= MEAN_MAX && most <= MOST_MAX, text);
    }
  });

  test('the comparison tells pictures apart that are nearly alike', async () => {
    const original = readFileSync(join(DIRECTORY, 'w.jpg'));
    const shifted = await sharp(original).modulate({ brightness: 1.05 }).jpeg({ quality: 95 }).toBuffer();
    const { mean } = await difference(original, shifted);
    assert.ok(mean > MEAN_MAX, `${mean}`);
  });

  test('each is there beside what asks for it', () => {
    for (const { file, ask } of DOC_PICTURES) {
      const line = lines.find((text) => new RegExp(`images/${file}\\.[a-z]+[)"]`).test(text));
      assert.ok(line !== undefined, `${file} is shown`);
      // Gravities stand in a table of their own, with the query above it.
      const gravity = /^g-([a-z]+)-/.exec(file)?.[1];
      const said = gravity === undefined ? ask : gravity;
      assert.ok(line.includes(`\`${said}\``), `${file} stands beside ${said}`);
      if (gravity !== undefined)
        assert.ok(document.includes(`\`${ask.slice(0, -gravity.length)}…\``), `${ask} is said`);
    }
    for (const [, file] of document.matchAll(/(?:\]\(|src=")([^)":#]+)/g))
      assert.ok(existsSync(join(ROOT, 'docs', file!)), `${file} is there`);
  });

  test('has every option, and each of their words', () => {
    const table = document.slice(document.indexOf('## Options'), document.indexOf('### Size'));
    for (const name of OPTION_NAMES)
      assert.match(table, new RegExp(`^\\|.*\`${name}=\`.*\\|.*\\|`, 'm'), name);
    const asks = DOC_PICTURES.map(({ ask }) => ask).join('\n');
    for (const name of OPTION_NAMES) assert.match(asks, new RegExp(`[?&]${name}=`), `${name} has a picture`);
    for (const [name, words] of [
      ['fit', FITS],
      ['g', GRAVITIES],
      ['fm', ['auto', ...FORMATS]],
      ['rot', ROTATIONS],
    ] as const)
      for (const word of words) {
        assert.match(asks, new RegExp(`[?&]${name}=${word}(?:&|$)`, 'm'), `${name}=${word} has a picture`);
        assert.ok(document.includes(`\`${word}\``), `${word} of ${name} is explained`);
      }
  });

  test('has every setting with its default', () => {
    const settings = document.slice(document.indexOf('## Settings'));
    const config = zImages.parse({});
    const expected = new Map<string, unknown>();
    for (const name of Object.keys(zImages.shape)) expected.set(name, config[name as keyof typeof config]);
    for (const [name, value] of Object.entries(config.cacheControl))
      expected.set(`cacheControl.${name}`, value);
    for (const [name, value] of expected) {
      const cell = new RegExp(`^\\| \`${name.replace('.', '\\.')}\` \\| (.*?) \\|`, 'm').exec(settings)?.[1];
      assert.ok(cell !== undefined, `${name} is explained`);
      if (name === 'sizes') assert.is(cell, `${config.sizes.length} sizes`);
      else if (name === 'presets')
        for (const preset of Object.keys(config.presets)) assert.ok(cell.includes(`\`${preset}\``), preset);
      else if (name !== 'decoders' && name !== 'cacheControl')
        assert.is(cell, `\`${JSON.stringify(value)}\``, name);
    }
  });

  test('its pictures are small', () => {
    const sizes = readdirSync(DIRECTORY).map((file) => statSync(join(DIRECTORY, file)).size);
    assert.ok(Math.max(...sizes) <= FILE_BYTES_MAX);
    assert.ok(sizes.reduce((sum, size) => sum + size, 0) <= ALL_BYTES_MAX);
  });
}, 120_000);
