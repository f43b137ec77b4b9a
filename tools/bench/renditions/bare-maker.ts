// Makes renditions with no HTTP and no store around it: what the gateway's own are compared with. One at a time, as a decoder
// of the gateway does.
// usage: bare-maker ORIGINAL... ; then for each message { n, how } it makes rendition n and answers { n }
import { readFileSync } from 'node:fs';
import sharp from 'sharp';
import { make, prepareDecoders } from '../../../client/gateway/images/make.ts';
import { renditionOf } from '../../../client/gateway/images/options.ts';
import { zImages } from '../../../common/config-images.ts';
import { type Ask, askOf } from './asks.ts';

/** `sharp`: the shortest program that makes the same; `make`: the gateway's own function. */
export type How = 'sharp' | 'make';

const originals = process.argv.slice(2).map((path) => readFileSync(path));
const { pixelsMax, framesMax, renditionBytesMax } = zImages.parse({});
const LIMITS = { pixelsMax, framesMax, bytesMax: renditionBytesMax, keepCopyright: false };

prepareDecoders();
process.on('message', async ({ n, how }: { n: number; how: How }) => {
  const ask = askOf(n, originals.length);
  await MAKERS[how](originals[ask.original]!, ask);
  process.send!({ n });
});
process.once('SIGTERM', () => process.exit(0));
process.once('disconnect', () => process.exit(0));
process.send!('ready');

const MAKERS: Readonly<Record<How, (original: Buffer, ask: Ask) => Promise<unknown>>> = {
  sharp: (original, { width, quality }) =>
    sharp(original, { sequentialRead: true })
      .autoOrient()
      .resize({ width })
      .jpeg({ quality, progressive: true })
      .toBuffer(),
  make: (original, { width, quality }) =>
    make(
      original,
      renditionOf(new Map(Object.entries({ w: String(width), q: String(quality), fm: 'jpg' }))),
      LIMITS,
    ),
};
