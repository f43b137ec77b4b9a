import { z } from 'zod';

/** Renditions: what may be asked for, what making them may take, and how long they may be kept. */

const MIB = 1024 * 1024;
const DAY = 24 * 3600;
const YEAR = 365 * DAY;
const seconds = (max: number) => z.number().int().min(0).max(max);
const count = (min: number, max: number) => z.number().int().min(min).max(max);

const SQUARES = [
  ...[16, 24, 32, 40, 50, 60, 64, 70, 80, 90, 100, 110, 120, 128, 140, 160, 180, 190, 200, 220, 240, 250],
  ...[
    270, 290, 300, 310, 320, 350, 360, 400, 430, 450, 460, 468, 480, 500, 540, 560, 570, 580, 600, 620, 640,
  ],
  ...[720, 728, 760, 800, 960, 970, 1080, 1200, 1280, 1600, 1920, 2048],
];
const WIDTHS = [
  ...[
    160, 240, 320, 375, 400, 480, 600, 640, 720, 750, 768, 800, 828, 960, 1024, 1080, 1200, 1280, 1440, 1600,
  ],
  ...[1920, 2048, 2560, 3840],
];
const SIZES_DEFAULT = [...SQUARES.map((side) => `${side}x${side}`), ...WIDTHS.map((width) => `${width}x`)];

/** `WxH`, `Wx` or `xH`. */
const size = z
  .string()
  .regex(/^(?:[1-9]\d{0,4}x(?:[1-9]\d{0,4})?|x[1-9]\d{0,4})$/, 'must be like 310x310, 640x or x480');
const presetName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, 'must be letters, digits, - and _');
/** As in a query: w, h, fit, g, dpr, q, fm, blur, sharpen, rot, bg, enlarge. */
const preset = z.record(z.string().max(16), z.union([z.string().max(32), z.number()]));

const zCacheControl = z.strictObject({
  /** Of an original: its bytes never change. */
  originalSeconds: seconds(YEAR).default(YEAR),
  /** Of a rendition: another version of the store may make other bytes. */
  renditionSeconds: seconds(YEAR).default(30 * DAY),
  /** What a cache may do with one that is too old: show it while it asks, and where nobody answers. */
  staleWhileRevalidateSeconds: seconds(YEAR).default(DAY),
  staleIfErrorSeconds: seconds(YEAR).default(7 * DAY),
  /** Of "there is no such picture". */
  notFoundSeconds: seconds(3600).default(5),
  /** Of "this cannot be decoded". */
  undecodableSeconds: seconds(3600).default(60),
});

export const zImages = z.strictObject({
  /**
   * Which renditions are made for anybody: `presets` alone, the `sizes` of the list too, nothing that is not `signed`, or
   * `any`, which invites to fill the caches. What is signed is made in any case.
   */
  policy: z.enum(['presets', 'sizes', 'signed', 'any']).default('sizes'),
  /** Pixels after the pixel ratio. */
  sizes: z.array(size).max(10_000).default(SIZES_DEFAULT),
  qualities: z.array(count(1, 100)).max(100).default([50, 60, 70, 75, 80, 85, 90, 95]),
  presets: z
    .record(presetName, preset)
    .refine((all) => Object.keys(all).length <= 1000, 'at most 1000 presets')
    .default({
      thumb: { w: 310, h: 310, fm: 'auto' },
      sum: { w: 80, h: 80 },
      b: { w: 310, h: 310 },
      m: { w: 230, h: 230 },
    }),
  /** Originals too are only for those who have a signature. */
  signedOriginals: z.boolean().default(false),
  /** What `fm=auto` offers to those who name it, best first, before what everybody shows. */
  formats: z
    .array(z.enum(['avif', 'webp']))
    .max(2)
    .default(['avif', 'webp']),
  /** Keep the copyright and the artist that EXIF names, and nothing else of it. */
  keepCopyright: z.boolean().default(false),
  /** Processes that decode, of all workers of the gateway together; as many as there are cores when absent. */
  decoders: count(1, 256).optional(),
  /** A picture that takes longer costs its decoder. */
  decodeMsMax: count(100, 60_000).default(5_000),
  /** What one decoder may take. */
  decoderBytesMax: z
    .number()
    .int()
    .min(128 * MIB)
    .default(1024 * MIB),
  /** Of pictures that wait for a decoder, on each worker: what is beyond that is 503. */
  waitingMegapixelsMax: count(1, 1_000_000).default(2_000),
  /** Of an original, one frame. */
  pixelsMax: count(1, 1_000_000_000).default(50_000_000),
  framesMax: count(1, 10_000).default(200),
  /** Of a rendition. */
  renditionBytesMax: count(1024, 512 * MIB).default(32 * MIB),
  /** Renditions kept in the memory of each worker. */
  memoryBytes: z
    .number()
    .int()
    .min(0)
    .default(64 * MIB),
  /** Renditions kept on disk, by all workers together; 0: none. */
  diskBytes: z
    .number()
    .int()
    .min(0)
    .default(1024 * MIB),
  /** For these alone. Relative to the home directory. */
  diskDir: z.string().min(1).max(4096).default('renditions'),
  cacheControl: zCacheControl.default(() => zCacheControl.parse({})),
  /** Who may read pictures by script, and measure how long they take: `*`, or origins such as https://shop.example. */
  allowOrigins: z.union([z.literal('*'), z.array(z.url({ protocol: /^https?$/ })).max(100)]).default('*'),
});

export type ImagesConfig = z.output<typeof zImages>;
