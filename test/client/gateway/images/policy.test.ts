import { randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import { Policy, type PolicyMode } from '../../../../client/gateway/images/policy.ts';
import { PLAIN, type Rendition } from '../../../../client/gateway/images/rendition.ts';
import { imageRequest, type Presets } from '../../../../client/gateway/images/request.ts';
import { type Signed, SigningKeys } from '../../../../client/gateway/images/signature.ts';
import { isTfsError } from '../../../../common/errors.ts';
import { describe } from '../../../kit/suite.ts';

const NAME = 'T19aETByJT1RCvBVdK';
const NOW = 1_800_000_000_000;
const IN_AN_HOUR = NOW / 1000 + 3600;
const PRESETS: Presets = new Map([['thumb', { ...PLAIN, width: 310, height: 310 }]]);
const OLD = { id: 'old', secret: randomBytes(32) };
const NEW = { id: 'new', secret: randomBytes(32) };

const ask = (query: string, tail = '.jpg') => imageRequest(tail, query, PRESETS);

function outcome(work: () => void): string {
  try {
    work();
    return 'allowed';
  } catch (error) {
    assert.ok(isTfsError(error, 'FORBIDDEN'), String(error));
    return error.message;
  }
}

/** @returns what came of a request for a rendition */
function policyOf(mode: PolicyMode, { signedOriginals = false, keys = new SigningKeys([NEW]) } = {}) {
  const policy = new Policy({
    mode,
    sizes: new Set(['310x310', '100x', 'x50']),
    qualities: new Set([50]),
    signedOriginals,
    keys,
  });
  return (query: string, tail?: string) => outcome(() => policy.check(NAME, ask(query, tail), NOW));
}

function queryOf(keys: SigningKeys, query: string, changed: Partial<Signed> = {}): string {
  const { rendition } = ask(query);
  const parameters = keys.sign({ name: NAME, rendition, expires: IN_AN_HOUR, ...changed });
  return [query, new URLSearchParams(parameters)].filter((part) => String(part) !== '').join('&');
}

describe('what a gateway makes for whom', (test) => {
  test('presets alone, a list of sizes, only what is signed, or anything', () => {
    const presets = policyOf('presets');
    assert.is(presets(''), 'allowed');
    assert.is(presets('p=thumb'), 'allowed');
    assert.match(presets('w=310&h=310'), /presets only/);
    assert.match(presets('', '.jpg_310x310.jpg'), /presets only/);
    const sizes = policyOf('sizes');
    for (const query of ['p=thumb', 'w=310&h=310', 'w=155&h=155&dpr=2', 'w=100', 'h=50', 'fm=webp', 'q=50'])
      assert.is(sizes(query), 'allowed', query);
    assert.is(sizes('', '.jpg_310x310.jpg_.webp'), 'allowed');
    assert.match(sizes('w=311&h=310'), /size 311x310/);
    assert.match(sizes('w=310&h=310&dpr=2'), /size 620x620/);
    assert.match(sizes('w=50'), /size 50x /);
    assert.match(sizes('w=100&q=51'), /quality 51/);
    assert.match(sizes('w=100&blur=3'), /blur, sharpen/);
    assert.match(policyOf('signed')('p=thumb'), /needs a signature/);
    assert.is(policyOf('signed')(''), 'allowed');
    assert.match(policyOf('any', { signedOriginals: true })(''), /need a signature/);
    assert.is(policyOf('any')('w=999&blur=3'), 'allowed');
  });

  test('what is signed is made whatever the policy is, until it expires', () => {
    const keys = new SigningKeys([NEW]);
    for (const mode of ['presets', 'sizes', 'signed', 'any'] as const)
      assert.is(policyOf(mode)(queryOf(keys, 'w=999&q=3')), 'allowed', mode);
    assert.is(policyOf('signed', { signedOriginals: true })(queryOf(keys, '')), 'allowed');
    assert.match(policyOf('any')(queryOf(keys, 'w=9', { expires: NOW / 1000 })), /has expired/);
    assert.is(policyOf('any')(queryOf(keys, 'w=9', { expires: NOW / 1000 + 1 })), 'allowed');
  });

  test('a signature is of one request, however that is spelled, and of no other', () => {
    const keys = new SigningKeys([NEW]);
    const allowed = policyOf('signed');
    const signature = queryOf(keys, 'w=310&h=310&fm=jpg').replace('w=310&h=310&fm=jpg', '');
    assert.is(allowed(`fm=jpg&h=155&w=155&dpr=2${signature}`), 'allowed');
    assert.is(allowed(signature.slice(1), '.jpg_310x310.jpg'), 'allowed');
    for (const other of [
      'w=311&h=310&fm=jpg',
      'w=310&h=310&fm=webp',
      'w=310&h=310&fm=jpg&q=5',
      'w=310&h=310',
    ])
      assert.match(allowed(other + signature), /not one of this request/, other);
    assert.match(allowed(signature.slice(1)), /not one of this request/, 'the original');
    const elsewhere = queryOf(keys, 'w=9', { name: 'T19RETByJT1RCvBVdK' });
    assert.match(allowed(elsewhere), /not one of this request/);
    const original = queryOf(keys, '', { rendition: undefined });
    assert.match(allowed(`w=9&${original}`), /not one of this request/);
  });

  test('whatever was changed about it is refused', () => {
    const keys = new SigningKeys([NEW]);
    const allowed = policyOf('signed');
    const good = queryOf(keys, 'w=9');
    const { exp, kid, sig } = keys.sign({ name: NAME, rendition: sizedTo(9), expires: IN_AN_HOUR });
    assert.is(allowed(good), 'allowed');
    const changed = [
      `w=9&exp=${Number(exp) + 1}&kid=${kid}&sig=${sig}`,
      `w=9&exp=0${exp}&kid=${kid}&sig=${sig}`,
      `w=9&exp=${exp}.0&kid=${kid}&sig=${sig}`,
      `w=9&exp=1e99&kid=${kid}&sig=${sig}`,
      `w=9&kid=${kid}&sig=${sig}`,
      `w=9&exp=${exp}&sig=${sig}`,
      `w=9&exp=${exp}&kid=other&sig=${sig}`,
      `w=9&exp=${exp}&kid=${kid}`,
      `w=9&exp=${exp}&kid=${kid}&sig=`,
      `w=9&exp=${exp}&kid=${kid}&sig=${sig.slice(0, -1)}`,
      `w=9&exp=${exp}&kid=${kid}&sig=${sig}A`,
      `w=9&exp=${exp}&kid=${kid}&sig=${sig}%3D`,
      `w=9&exp=${exp}&kid=${kid}&sig=${'A'.repeat(43)}`,
      `w=9&exp=${exp}&kid=${kid}&sig=${sig.slice(0, -1)}${otherSpelling(sig)}`,
    ];
    for (const query of changed) assert.not.equal(allowed(query), 'allowed', query);
  });

  test('a key takes the place of another while URLs of both are about', () => {
    const before = new SigningKeys([OLD]);
    const between = new SigningKeys([NEW, OLD]);
    const after = new SigningKeys([NEW]);
    const old = queryOf(before, 'w=9');
    assert.is(policyOf('signed', { keys: between })(old), 'allowed');
    assert.match(policyOf('signed', { keys: after })(old), /not one of this request/);
    assert.is(policyOf('signed', { keys: after })(queryOf(between, 'w=9')), 'allowed');
    // A key that is gone is not the same as one of zeros.
    const zeros = new SigningKeys([{ id: 'old', secret: Buffer.alloc(32) }]);
    assert.match(policyOf('signed', { keys: after })(queryOf(zeros, 'w=9')), /not one of this request/);
  });
});

const sizedTo = (width: number): Rendition => ({ ...PLAIN, width });

/** Of the last character of 32 bytes in base64 two bits count for nothing. */
function otherSpelling(sig: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  return alphabet[alphabet.indexOf(sig.at(-1)!) ^ 1]!;
}
