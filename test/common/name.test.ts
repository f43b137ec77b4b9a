import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import * as assert from 'uvu/assert';
import type { BlockId, Cookie, FileId } from '../../common/ids.ts';
import {
  decodeName,
  encodeName,
  NAME_LENGTH,
  type NameParts,
  nameCodec,
  suffixHash,
  TFS_PROFILE,
} from '../../common/name.ts';
import { describe } from '../kit/suite.ts';

interface Vector {
  readonly name: string;
  readonly tail: string;
  readonly digit: number;
  readonly block: number;
  readonly fileId: number;
  readonly cookie: number;
}
const vectors = JSON.parse(
  readFileSync(join(import.meta.dirname, '..', 'testdata', 'names.json'), 'utf8'),
) as { readonly names: Vector[]; readonly suffixes: [string, number][] };

const partsOf = (vector: Vector): NameParts => ({
  clusterDigit: vector.digit,
  block: vector.block as BlockId,
  fileId: vector.fileId as FileId,
  cookie: vector.cookie as Cookie,
});
const u32 = fc.nat(0xffff_ffff);
const anyParts = fc
  .record({ clusterDigit: fc.nat(9), block: u32, fileId: u32, cookie: u32 })
  .map((parts) => parts as unknown as NameParts);

describe('name', (test) => {
  test('spells every known name of TFS', () => {
    assert.is(vectors.names.length, 12);
    for (const vector of vectors.names) {
      // A large file of TFS has the same spelling behind an L; this store has no such thing.
      const small = `T${vector.name.slice(1)}`;
      assert.is(encodeName(partsOf(vector)), small);
      assert.equal(decodeName(small + vector.tail), { ...partsOf(vector), tail: vector.tail });
      if (vector.name[0] === 'L') assert.is(decodeName(vector.name), undefined);
    }
  });

  test('hashes every known suffix', () => {
    assert.ok(vectors.suffixes.length >= 12);
    for (const [suffix, hash] of vectors.suffixes) assert.is(suffixHash(suffix), hash, suffix);
  });

  test('a cluster may have an alphabet of its own', () => {
    const codec = nameCodec({
      table: 'XabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWYZ0123456789_.',
      key: '',
    });
    const known: [string, number, number, string][] = [
      ['T1PEYUXd4nXXaK2CkT', 11_533_481, 3662, '_012736.jpg'],
      ['T1a7_iXmXhXXb1upjX', 9_027_335, 2256, '.jpg'],
      ['T1vRCHXoBjXXbf5gs0', 6_473_562, 2807, '_035318.jpg'],
    ];
    for (const [name, block, fileId, tail] of known) {
      const parts = { clusterDigit: 1, block, fileId, cookie: suffixHash(tail) } as unknown as NameParts;
      assert.equal(codec.decode(name + tail), { ...parts, tail });
      assert.is(codec.encode(parts), name);
    }
  });

  test('every address has one name and every name one address', () => {
    fc.assert(
      fc.property(anyParts, fc.string(), (parts, tail) => {
        const name = encodeName(parts);
        assert.is(name.length, NAME_LENGTH);
        assert.equal(decodeName(name + tail), { ...parts, tail });
      }),
    );
  });

  test('nothing that is not a name decodes, and nothing throws', () => {
    const good = encodeName({ clusterDigit: 1, block: 1, fileId: 2, cookie: 3 } as unknown as NameParts);
    const bad = [
      '',
      'T',
      good.slice(0, 17),
      `X${good.slice(1)}`,
      `t${good.slice(1)}`,
      `TB${good.slice(2)}`,
      `T:${good.slice(2)}`,
      `T/${good.slice(2)}`,
      `${good.slice(0, 17)}/`,
      `${good.slice(0, 5)}\0${good.slice(6)}`,
      `${good.slice(0, 17)}é`,
      `${good.slice(0, 17)}中`,
      'T1../../../etc/passwd',
    ];
    for (const text of bad) assert.is(decodeName(text), undefined, JSON.stringify(text));
    const alphabet = new Set(TFS_PROFILE.table);
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (text) => {
        const decoded = decodeName(text);
        if (decoded === undefined) return;
        assert.is(encodeName(decoded) + decoded.tail, text);
        assert.ok([...text.slice(2, NAME_LENGTH)].every((char) => alphabet.has(char)));
      }),
      { numRuns: 1000 },
    );
  });

  test('what decodes encodes to itself again', () => {
    const text = fc
      .tuple(fc.nat(9), fc.array(fc.constantFrom(...TFS_PROFILE.table), { minLength: 16, maxLength: 16 }))
      .map(([digit, chars]) => `T${digit}${chars.join('')}`);
    fc.assert(
      fc.property(text, (name) => {
        const decoded = decodeName(name);
        assert.ok(decoded);
        assert.is(encodeName(decoded!), name);
      }),
    );
  });
});
