import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { Accept, mimeOfFormat, negotiate } from '../../../../client/gateway/images/accept.ts';
import { FORMATS, type Format } from '../../../../client/gateway/images/rendition.ts';
import { describe } from '../../../kit/suite.ts';

const OFFERED: readonly Format[] = ['avif', 'webp', 'jpg'];

describe('a format that a client takes', (test) => {
  test('browsers get the best that they name, everybody else what everybody shows', () => {
    const cases: readonly (readonly [string | undefined, Format | undefined])[] = [
      [undefined, 'jpg'],
      ['', 'jpg'],
      ['*/*', 'jpg'],
      ['image/*', 'jpg'],
      // Chrome, Firefox, Safari, curl.
      ['image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8', 'avif'],
      ['image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5', 'avif'],
      ['image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5', 'webp'],
      ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'jpg'],
      ['image/avif;q=0,image/webp', 'webp'],
      ['image/avif;q=0, image/webp;q=0, */*', 'jpg'],
      ['image/webp;q=0.5,image/avif;q=0.4,image/jpeg;q=0.1', 'webp'],
      ['image/avif;q=0.1,image/jpeg', 'jpg'],
      ['image/jpeg;q=0,*/*', undefined],
      ['image/jpeg;q=0,image/webp', 'webp'],
      ['image/png', undefined],
      ['IMAGE/WEBP ; Q=1.000', 'webp'],
      ['image/webp;level=1;q=0', undefined],
      ['image/webp;q=nonsense', undefined],
      ['image/webp;q=2', undefined],
      [', ,image/webp,,', 'webp'],
      ['x'.repeat(2000), 'jpg'],
    ];
    for (const [header, expected] of cases) assert.is(negotiate(header, OFFERED), expected, String(header));
  });

  test('PROPERTY: never one that the client excluded, always one where it takes any', () => {
    const range = fc.tuple(
      fc.constantFrom('*/*', 'image/*', 'text/html', ...FORMATS.map(mimeOfFormat)),
      fc.constantFrom('', ';q=0', ';q=0.5', ';q=1', '; q=0.001'),
    );
    fc.assert(
      fc.property(
        fc.array(range, { maxLength: 8 }),
        fc.shuffledSubarray([...FORMATS], { minLength: 1 }),
        (ranges, offered) => {
          const header = ranges.map(([type, weight]) => type + weight).join(',');
          const accept = new Accept(header);
          const format = negotiate(header, offered);
          if (format !== undefined) assert.not(accept.excludes(format), header);
          else
            assert.ok(
              offered.every((one) => accept.weight(one) === 0),
              header,
            );
        },
      ),
      { numRuns: 1000 },
    );
  });
});
