import { type MakeLimits, make } from '../../client/gateway/images/make.ts';
import { presetsOf } from '../../client/gateway/images/presets.ts';
import { FITS, GRAVITIES } from '../../client/gateway/images/rendition.ts';
import { imageRequest } from '../../client/gateway/images/request.ts';
import { settle } from '../../client/gateway/images/settled.ts';
import { zImages } from '../../common/config-images.ts';
import { MediaType } from '../../common/wire/messages.ts';
import { ORIGINALS, type OriginalName } from './originals.ts';

/** A picture of docs/images.md. */
export interface DocPicture {
  /** In docs/images, without its ending, which is that of its format. */
  readonly file: string;
  readonly original: OriginalName;
  /** What follows the name in the URL: a suffix or a query. As it is in the document. */
  readonly ask: string;
  /** The header Accept. */
  readonly accept?: string;
}

const of = (original: OriginalName, asks: Readonly<Record<string, string>>): DocPicture[] =>
  Object.entries(asks).map(([file, ask]) => ({ file, original, ask }));

export const DOC_PICTURES: readonly DocPicture[] = [
  ...of('sample', {
    'suffix-box': '.jpg_240x240.jpg',
    'suffix-crop': '.jpg_160x160xz.jpg',
    'suffix-quality': '.jpg_240x240q20.jpg',
    'suffix-sharp': '.jpg_240x240q90s200.jpg',
    'suffix-size': '.jpg_q40.jpg',
    'suffix-webp': '.jpg_160x160.jpg_.webp',
    'suffix-only-webp': '.jpg_.webp',
    'suffix-sum': '.jpg_sum.jpg',
    'suffix-m': '.jpg_m.jpg',
    'suffix-b': '.jpg_b.jpg',
    preset: '?p=thumb',
    w: '?w=240',
    h: '?h=90',
    box: '?w=200&h=200',
    ...Object.fromEntries(FITS.map((fit) => [`fit-${fit}`, `?w=150&h=150&fit=${fit}`])),
    'fit-contain-bg': '?w=150&h=150&fit=contain&bg=ffd070',
    ...Object.fromEntries(GRAVITIES.map((g) => [`g-${g}-tall`, `?w=80&h=140&fit=cover&g=${g}`])),
    ...Object.fromEntries(GRAVITIES.map((g) => [`g-${g}-flat`, `?w=240&h=60&fit=cover&g=${g}`])),
    dpr: '?w=120&dpr=2',
    'q-10': '?w=240&q=10',
    'q-50': '?w=240&q=50',
    'q-90': '?w=240&q=90',
    'fm-jpg': '?w=160&fm=jpg',
    'fm-png': '?w=160&fm=png',
    'fm-webp': '?w=160&fm=webp',
    'fm-avif': '?w=160&fm=avif',
    'fm-gif': '?w=160&fm=gif',
    blur: '?w=240&blur=4',
    sharpen: '?w=240&sharpen=3',
    'rot-0': '?w=160&rot=0',
    'rot-90': '?w=160&rot=90',
    'rot-180': '?w=160&rot=180',
    'rot-270': '?w=160&rot=270',
  }),
  { file: 'fm-auto', original: 'sample', ask: '?w=160&fm=auto', accept: 'image/webp,*/*' },
  ...of('small', { 'not-enlarged': '?w=240', enlarged: '?w=240&enlarge=1' }),
  ...of('turned', { oriented: '?w=150', 'oriented-rot': '?w=150&rot=90' }),
  ...of('cmyk', { 'from-cmyk': '?w=240' }),
  ...of('alpha', {
    'alpha-kept': '?w=150',
    'alpha-jpg': '?w=150&fm=jpg',
    'alpha-bg': '?w=150&fm=jpg&bg=204080',
    'alpha-bg-half': '?w=240&h=150&fit=contain&bg=20408080',
  }),
  ...of('moving', {
    'moving-gif': '?w=100',
    'moving-webp': '?w=100&fm=webp',
    'moving-jpg': '?w=100&fm=jpg',
  }),
];

const MEDIA: Readonly<Record<OriginalName, MediaType>> = {
  sample: MediaType.JPEG,
  small: MediaType.JPEG,
  turned: MediaType.JPEG,
  cmyk: MediaType.JPEG,
  alpha: MediaType.PNG,
  moving: MediaType.GIF,
};

const CONFIG = zImages.parse({});
const LIMITS: MakeLimits = {
  pixelsMax: CONFIG.pixelsMax,
  framesMax: CONFIG.framesMax,
  bytesMax: CONFIG.renditionBytesMax,
  keepCopyright: CONFIG.keepCopyright,
};
const PRESETS = presetsOf(CONFIG.presets);

export interface MadePicture {
  /** With its ending. */
  readonly file: string;
  readonly bytes: Buffer;
}

/** Makes one as a gateway with the usual settings does, from what is asked for on. */
export async function makeDocPicture({ file, original, ask, accept }: DocPicture): Promise<MadePicture> {
  const [tail = '', query = ''] = ask.split('?');
  const { rendition } = imageRequest(tail, query, PRESETS);
  if (rendition === undefined) throw new Error(`${ask} asks for no rendition`);
  const facts = { name: 'T'.padEnd(18, '1'), mediaType: MEDIA[original], sha1: Buffer.alloc(20) };
  const settled = settle(rendition, facts, { accept, modern: CONFIG.formats, flavour: '' });
  const made = await make(await ORIGINALS[original](), settled.rendition, LIMITS);
  return { file: `${file}.${made.format}`, bytes: made.bytes };
}
