import fc from 'fast-check';
import * as assert from 'uvu/assert';
import {
  canonicalText,
  FITS,
  FORMATS,
  GRAVITIES,
  PLAIN,
  type Rendition,
  ROTATIONS,
} from '../../../../client/gateway/images/rendition.ts';
import { imageRequest, type Presets } from '../../../../client/gateway/images/request.ts';
import { isTfsError } from '../../../../common/errors.ts';
import { describe } from '../../../kit/suite.ts';

const PRESETS: Presets = new Map<string, Rendition>([
  ['thumb', { ...PLAIN, width: 310, height: 310, format: 'jpg' }],
  ['sum', { ...PLAIN, width: 80, height: 80 }],
]);

const asked = (tail: string, query = '') => {
  const { rendition, tail: own, preset } = imageRequest(tail, query, PRESETS);
  return { own, preset, text: rendition === undefined ? undefined : canonicalText(rendition) };
};
const text = (tail: string, query = '') => asked(tail, query).text;
const refusal = (tail: string, query = ''): string => {
  try {
    return `not refused: ${text(tail, query)}`;
  } catch (error) {
    assert.ok(isTfsError(error, 'BAD_REQUEST'), String(error));
    return error.message;
  }
};

describe('what may be asked for of a picture', (test) => {
  test('a name with its own suffix, and nothing else, is the original', () => {
    for (const tail of [
      '',
      '.jpg',
      '_012736.jpg',
      '_100x100.jpg',
      '_!!0-item_pic.jpg',
      '-W-H.png',
      '.webp',
      '.jpg_',
      'a_.b',
    ])
      assert.equal(asked(tail), { own: tail, preset: undefined, text: undefined });
    assert.is(imageRequest('.jpg', 'exp=1&kid=a&sig=b', PRESETS).rendition, undefined);
  });

  test('the three ways to ask for the same are one request', () => {
    const one = 'w310_h310_jpg';
    assert.is(text('.jpg_310x310.jpg'), one);
    assert.is(text('.jpg', 'w=310&h=310&fm=jpg'), one);
    assert.is(text('', 'fm=jpg&dpr=2&h=155&w=155&fit=inside&rot=0&enlarge=0'), one);
    assert.is(text('.png', 'p=thumb'), one);
    assert.is(text('_012736.jpg_0310x310.jpg'), one);
  });

  test('suffixes as Taobao has them', () => {
    assert.equal(asked('.jpg_100x100q90.jpg'), { own: '.jpg', preset: undefined, text: 'w100_h100_q90_jpg' });
    assert.is(text('.jpg_360x360xz.jpg'), 'w360_h360_cover_jpg');
    assert.equal(asked('.jpg_.webp'), { own: '.jpg', preset: undefined, text: 'webp' });
    assert.is(text('.jpg_580x580q90.jpg_.webp'), 'w580_h580_q90_webp');
    assert.is(text('.jpg_100x100q90.jpg_.webp'), 'w100_h100_q90_webp');
    assert.is(text('.png_Q75.jpg_.webp'), 'q75_webp');
    assert.is(text('.jpg_q50.jpg'), 'q50_jpg');
    assert.is(text('.jpg_360x360xzQ75s100.jpg'), 'w360_h360_cover_sharp1_q75_jpg');
    assert.equal(asked('_012736.jpg_310x310.jpg'), {
      own: '_012736.jpg',
      preset: undefined,
      text: 'w310_h310_jpg',
    });
    assert.is(text('.jpg_310x310.avif'), 'w310_h310_avif');
    assert.is(text('.jpg_310x310.jpg_.avif'), 'w310_h310_avif');
    assert.equal(asked('.jpg_sum.jpg'), { own: '.jpg', preset: 'sum', text: 'w80_h80_jpg' });
  });

  test('options are read strictly, and what is wrong is named', () => {
    assert.is(
      text('', 'w=100&h=50&fit=cover&g=attention&q=80&fm=auto'),
      'w100_h50_cover_g-attention_q80_auto',
    );
    assert.is(text('', 'w=100&bg=f0a&blur=2.50&sharpen=1&rot=90'), 'w100_rot90_blur2.5_sharp1_bgff00aa');
    assert.is(text('', 'w=100&bg=FFFFFFFF'), 'w100_bgffffff');
    const cases: Readonly<Record<string, RegExp>> = {
      'width=100': /no option "width"/,
      'W=100': /no option "W"/,
      'w=0': /option w: "0"/,
      'w=-5': /option w/,
      'w=1e3': /option w/,
      'w=100.5': /option w/,
      'w=+100': /option w: " 100"/,
      'w=0x10': /option w/,
      'w=99999999': /option w/,
      'w=16385': /option w/,
      'w=9000&dpr=2': /option w: 9000 x 2 is more/,
      'w=': /option w: ""/,
      'q=101': /option q/,
      'q=80%00': /option q/,
      'fm=tiff': /option fm: "tiff" is none of auto, jpg/,
      'fm=__proto__': /option fm/,
      '__proto__=1': /no option "__proto__"/,
      'constructor=1': /no option "constructor"/,
      'fit=cover&w=100': /option fit: cover needs w and h/,
      'w=1&h=1&g=north': /option g: gravity is for fit=cover/,
      'dpr=2': /option dpr: it needs w or h/,
      'enlarge=1': /option enlarge/,
      'dpr=1.333&w=1': /option dpr/,
      'dpr=9&w=1': /option dpr/,
      'blur=0.1': /option blur/,
      'rot=45': /option rot/,
      'rot=%2090': /none of|rot/,
      'bg=red': /option bg: "red" is no colour/,
      'w=1&w=1': /option "w": it is there twice/,
      'sig=1&sig=2': /"sig": it is there twice/,
      'p=thumb&w=5': /option "w": beside a preset/,
      'p=nope': /no preset "nope": sum, thumb/,
      'p=': /no preset ""/,
      [Array.from({ length: 20 }, (_, i) => `x${i}=1`).join('&')]: /16 options at most/,
    };
    for (const [query, expected] of Object.entries(cases))
      assert.match(refusal('.jpg', query), expected, query);
    assert.match(refusal('.jpg_310x310.jpg', 'q=5'), /option q: the name asks for a rendition already/);
    assert.match(refusal('.jpg_310x310.jpg', 'p=thumb'), /option p: the name asks/);
    assert.match(refusal('.jpg_0x310.jpg'), /option w: "0"/);
    assert.match(refusal('.jpg_310x310q101.jpg'), /option q/);
    assert.match(refusal('.jpg_m.jpg'), /no preset "m"/);
  });

  test('a long hostile value is short in the message, and no control character gets into it', () => {
    const message = refusal('', `fm=${encodeURIComponent('\r\nSet-Cookie: a=b')}${'x'.repeat(5000)}`);
    assert.ok(message.length < 200);
    assert.not.match(message, /[\r\n]/);
  });

  test('PROPERTY: one spelling for each request, and each spelling is one request', () => {
    const side = fc.option(fc.integer({ min: 1, max: 16_384 }), { nil: undefined });
    const rendition: fc.Arbitrary<Rendition> = fc.record({
      width: side,
      height: side,
      fit: fc.constantFrom(...FITS),
      gravity: fc.constantFrom(...GRAVITIES),
      enlarge: fc.boolean(),
      format: fc.option(fc.constantFrom('auto' as const, ...FORMATS), { nil: undefined }),
      quality: fc.option(fc.integer({ min: 1, max: 100 }), { nil: undefined }),
      blur: fc.constantFrom(0, 0.3, 2.5, 30),
      sharpen: fc.constantFrom(0, 0.1, 1, 10),
      rotate: fc.constantFrom(...ROTATIONS),
      background: fc.option(fc.constantFrom('ffffff', '00000080'), { nil: undefined }),
    });
    fc.assert(
      fc.property(rendition, (one) => {
        const spelled = canonicalText(one);
        assert.match(spelled, /^[a-z0-9._-]*$/);
        // Asked for by a query that says the same, it is spelled the same.
        const { width, height, fit, gravity, enlarge, format, quality, blur, sharpen, rotate, background } =
          one;
        const isBoth = width !== undefined && height !== undefined;
        const query = new URLSearchParams();
        if (format !== undefined) query.set('fm', format);
        if (background !== undefined) query.set('bg', background);
        if (rotate > 0) query.set('rot', String(rotate));
        if (sharpen > 0) query.set('sharpen', String(sharpen));
        if (blur > 0) query.set('blur', String(blur));
        if (quality !== undefined) query.set('q', String(quality));
        if (enlarge && (width ?? height) !== undefined) query.set('enlarge', '1');
        if (isBoth) query.set('fit', fit);
        if (isBoth && fit === 'cover') query.set('g', gravity);
        if (height !== undefined) query.set('h', String(height));
        if (width !== undefined) query.set('w', String(width));
        assert.is(text('.jpg', query.toString()) ?? '', spelled);
      }),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(rendition, rendition, (a, b) => {
        if (canonicalText(a) !== canonicalText(b)) return;
        assert.equal(meaning(a), meaning(b));
      }),
      { numRuns: 500 },
    );
  });
});

/** Without what makes no difference. */
function meaning(one: Rendition): Rendition {
  const isBoth = one.width !== undefined && one.height !== undefined;
  const fit = isBoth ? one.fit : 'inside';
  return {
    ...one,
    fit,
    gravity: fit === 'cover' ? one.gravity : 'center',
    enlarge: one.enlarge && (one.width ?? one.height) !== undefined,
  };
}
