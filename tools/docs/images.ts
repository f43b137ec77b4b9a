// npm run docs:images: makes the pictures of docs/images.md anew, with the code that makes those of a gateway.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PACKAGE_ROOT } from '../cluster/home.ts';

import { DOC_PICTURES, makeDocPicture } from './pictures.ts';

const directory = join(PACKAGE_ROOT, 'docs', 'images');
mkdirSync(directory, { recursive: true });
const pictures = await Promise.all(DOC_PICTURES.map(makeDocPicture));
for (const { file, bytes } of pictures) writeFileSync(join(directory, file), bytes);
const known = new Set(pictures.map(({ file }) => file));
for (const file of readdirSync(directory)) if (!known.has(file)) rmSync(join(directory, file));
const bytes = pictures.reduce((sum, picture) => sum + picture.bytes.length, 0);
process.stdout.write(`${pictures.length} pictures, ${bytes} bytes, in ${directory}\n`);
