// Writes the golden files and the hex dumps of docs/formats.md. usage: node --import tsx test/kit/write-golden.ts
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GOLDEN_DIRECTORY, goldenFiles, withExamples } from './golden.ts';

const files = goldenFiles();
mkdirSync(GOLDEN_DIRECTORY, { recursive: true });
for (const [name, bytes] of Object.entries(files)) writeFileSync(join(GOLDEN_DIRECTORY, name), bytes);
const document = join(import.meta.dirname, '..', '..', 'docs', 'formats.md');
if (existsSync(document)) writeFileSync(document, withExamples(readFileSync(document, 'utf8'), files));
process.stdout.write(`${Object.keys(files).length} golden files\n`);
