import { randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import type { Format } from '../../../../client/gateway/images/rendition.ts';
import { PLAIN, type Rendition } from '../../../../client/gateway/images/rendition.ts';
import { settle } from '../../../../client/gateway/images/settled.ts';
import { isTfsError } from '../../../../common/errors.ts';
import { MediaType } from '../../../../common/wire/messages.ts';
import { describe } from '../../../kit/suite.ts';

const MODERN: readonly Format[] = ['avif', 'webp'];
const sha1 = randomBytes(20);
const CHROME = 'image/avif,image/webp,image/apng,*/*;q=0.8';

const settled = (changed: Partial<Rendition>, mediaType: MediaType, accept?: string, of = sha1) =>
  settle(
    { ...PLAIN, width: 310, ...changed },
    { name: 'T19aETByJT1RCvBVdK', mediaType, sha1: of },
    { accept, modern: MODERN, flavour: '' },
  );
const formatOf = (format: Rendition['format'], mediaType: MediaType, accept?: string) =>
  settled({ format }, mediaType, accept).rendition.format;

describe('the format of a rendition, and its tag', (test) => {
  test('what is asked for is made; else what is stored, where browsers show it', () => {
    assert.is(formatOf('png', MediaType.JPEG, CHROME), 'png');
    assert.is(formatOf(undefined, MediaType.JPEG, CHROME), 'jpg');
    assert.is(formatOf(undefined, MediaType.GIF), 'gif');
    assert.is(
      formatOf(undefined, MediaType.TIFF),
      undefined,
      'whoever decodes it sees whether there is alpha',
    );
  });

  test('auto is the best that the client names, else what everybody shows', () => {
    assert.is(formatOf('auto', MediaType.JPEG, CHROME), 'avif');
    assert.is(formatOf('auto', MediaType.JPEG, 'image/webp,*/*'), 'webp');
    assert.is(formatOf('auto', MediaType.JPEG, '*/*'), 'jpg');
    assert.is(formatOf('auto', MediaType.PNG), 'png');
    assert.is(formatOf('auto', MediaType.GIF, 'image/*'), 'gif');
    assert.is(formatOf('auto', MediaType.HEIC, 'image/*'), 'jpg');
    let thrown: unknown;
    try {
      formatOf('auto', MediaType.JPEG, 'text/html');
    } catch (error) {
      thrown = error;
    }
    assert.ok(isTfsError(thrown, 'NOT_ACCEPTABLE'));
    assert.match(String(thrown), /avif, webp, jpg/);
    // Rather another one than none, and never one that is excluded.
    assert.is(formatOf('auto', MediaType.PNG, 'image/jpeg'), 'jpg');
    const padding = `text/${'x'.repeat(2000)}`;
    assert.is(formatOf('auto', MediaType.JPEG, `${padding}, image/jpeg;q=0, image/png`), 'png');
  });

  test('the tag is that of the bytes: of picture, request and format, and not of how that was asked for', () => {
    const { etag, varies } = settled({ format: 'webp' }, MediaType.JPEG);
    assert.match(etag, /^"[0-9a-f]{24}-[0-9a-f]{16}"$/);
    assert.not(varies);
    const negotiated = settled({ format: 'auto' }, MediaType.JPEG, 'image/webp');
    assert.is(negotiated.etag, etag);
    assert.ok(negotiated.varies);
    const tags = [
      etag,
      settled({ format: 'avif' }, MediaType.JPEG).etag,
      settled({ format: 'webp', width: 311 }, MediaType.JPEG).etag,
      settled({ format: 'webp', quality: 5 }, MediaType.JPEG).etag,
      settled({ format: 'webp' }, MediaType.JPEG, undefined, randomBytes(20)).etag,
    ];
    assert.is(new Set(tags).size, tags.length);
  });
});
