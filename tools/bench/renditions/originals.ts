import { join } from 'node:path';
import sharp from 'sharp';
import { PACKAGE_ROOT } from '../../cluster/home.ts';

/** Width and height, pixels. The first is the picture that makers of such software measure with. */
const SIZES = [
  [2725, 2225],
  [1600, 1200],
  [2560, 1440],
  [1280, 960],
  [2048, 1536],
  [1920, 1080],
] as const;
const QUALITY = 80;
/** Standard deviation of the noise, of 255: it makes a drawing about as many bytes a pixel as a photo has. */
const NOISE = 8;

/** JPEGs of 1 to 6 megapixels, with as much detail as photos have. */
export const benchOriginals = (): Promise<Buffer[]> =>
  Promise.all(SIZES.map(([width, height]) => photo(width, height)));

/** One of 20 megapixels. */
export const largeOriginal = (): Promise<Buffer> => photo(5477, 3652);

/** The picture of this project, enlarged, with noise that decoders and encoders have to work on. */
async function photo(width: number, height: number): Promise<Buffer> {
  const noise = await sharp({
    create: {
      ...{ width, height, channels: 3, background: '#808080' },
      noise: { type: 'gaussian', mean: 128, sigma: NOISE },
    },
  })
    .png({ compressionLevel: 0 })
    .toBuffer();
  return sharp(join(PACKAGE_ROOT, 'docs', 'sample.jpg'))
    .resize(width, height, { fit: 'cover' })
    .composite([{ input: noise, blend: 'hard-light' }])
    .jpeg({ quality: QUALITY })
    .toBuffer();
}
