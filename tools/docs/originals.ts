import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { PACKAGE_ROOT } from '../cluster/home.ts';

/** What the pictures in docs/images are made of: the picture of this project, and small ones made of it or of nothing. */
export const ORIGINALS = {
  /** 960 x 540. */
  sample: async () => readFileSync(join(PACKAGE_ROOT, 'docs', 'sample.jpg')),
  /** 60 x 34. */
  small: () => sample().resize({ width: 60 }).jpeg({ quality: 90 }).toBuffer(),
  /** A camera held upright: stored lying on its side, with a word in EXIF that says so. */
  turned: async () => {
    const upright = await sample().extract({ left: 480, top: 60, width: 300, height: 400 }).png().toBuffer();
    return sharp(upright).rotate(270).withMetadata({ orientation: 6 }).jpeg({ quality: 85 }).toBuffer();
  },
  cmyk: () => sample().resize({ width: 480 }).withIccProfile('cmyk').jpeg({ quality: 90 }).toBuffer(),
  alpha: () => disc({ side: 300, x: 150, y: 150 }).png().toBuffer(),
  /** Eight frames. */
  moving: async () => {
    const frames = Array.from({ length: 8 }, (_, i) => {
      const angle = (i / 8) * 2 * Math.PI;
      const at = { x: 80 + 20 * Math.cos(angle), y: 80 + 20 * Math.sin(angle) };
      return disc({ side: 160, ...at })
        .png()
        .toBuffer();
    });
    return sharp(await Promise.all(frames), { join: { animated: true } })
      .gif({ delay: Array(8).fill(120), loop: 0 })
      .toBuffer();
  },
} as const satisfies Readonly<Record<string, () => Promise<Buffer>>>;

export type OriginalName = keyof typeof ORIGINALS;

const sample = () => sharp(join(PACKAGE_ROOT, 'docs', 'sample.jpg'));

/** A red disc whose edge fades away, on nothing. Pixels. */
function disc({ side, x, y }: { readonly side: number; readonly x: number; readonly y: number }) {
  const [radius, fade] = [side / 4, side / 8];
  const pixels = Buffer.alloc(side * side * 4);
  for (let row = 0; row < side; row++)
    for (let column = 0; column < side; column++) {
      const beyond = Math.hypot(column - x, row - y) - radius;
      const alpha = Math.round(255 * Math.min(1, Math.max(0, 1 - beyond / fade)));
      pixels.set([220, Math.round((160 * row) / side), 60, alpha], (row * side + column) * 4);
    }
  return sharp(pixels, { raw: { width: side, height: side, channels: 4 } });
}
