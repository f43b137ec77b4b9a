import * as assert from 'uvu/assert';
import { isTfsError } from '../../../common/errors.ts';
import { Keyring, proofOf, ROLES, sameProof } from '../../../common/wire/keys.ts';
import { describe } from '../../kit/suite.ts';
import { SECRET } from '../../kit/wire-world.ts';

describe('keys', (test) => {
  test('every role has a key of its own, and none is the rendezvous key', () => {
    const ring = Keyring.ofSecret(SECRET);
    const keys = [...ROLES.map((role) => ring.roleKey(role)!), ring.rendezvousKey].map((key) =>
      key.toString('hex'),
    );
    assert.is(new Set(keys).size, 5);
    for (const key of keys) assert.is(key.length, 64);
  });

  test('the keys of a secret do not change from one release to the next', () => {
    const ring = Keyring.ofSecret(Buffer.alloc(32, 1));
    assert.is(ring.roleKey('gateway')?.toString('hex'), GATEWAY_OF_ONES);
    assert.is(ring.rendezvousKey.toString('hex'), RENDEZVOUS_OF_ONES);
  });

  test('what is exported for a gateway speaks as a gateway and holds nothing else', () => {
    const ring = Keyring.ofSecret(SECRET);
    const exported = ring.exportRole('gateway');
    const gateway = Keyring.ofExport(JSON.parse(JSON.stringify(exported)));
    assert.equal(gateway.roleKey('gateway'), ring.roleKey('gateway'));
    assert.equal(gateway.rendezvousKey, ring.rendezvousKey);
    assert.is(gateway.roleKey('nameserver'), undefined);
    assert.is(gateway.roleKey('dataserver'), undefined);
    assert.throws(() => gateway.exportRole('nameserver'), 'is held');
    assert.not.match(JSON.stringify(exported), SECRET.toString('hex'));
  });

  test('a short secret and a cut key are refused', () => {
    const refused = (make: () => unknown) => {
      try {
        make();
      } catch (error) {
        return isTfsError(error, 'CONFIG');
      }
      return false;
    };
    assert.ok(refused(() => Keyring.ofSecret(Buffer.alloc(15))));
    assert.ok(refused(() => Keyring.ofRole('gateway', Buffer.alloc(31), Buffer.alloc(32))));
    assert.ok(refused(() => Keyring.ofExport({ role: 'gateway', key: 'zz', rendezvousKey: 'zz' })));
  });

  test('a proof depends on the key, on the label and on every part', () => {
    const key = Buffer.alloc(32, 1);
    const proof = proofOf(key, 'client', [Buffer.from('a'), Buffer.from('b')]);
    assert.ok(sameProof(proof, proofOf(key, 'client', [Buffer.from('a'), Buffer.from('b')])));
    assert.not.ok(
      sameProof(proof, proofOf(Buffer.alloc(32, 2), 'client', [Buffer.from('a'), Buffer.from('b')])),
    );
    assert.not.ok(sameProof(proof, proofOf(key, 'server', [Buffer.from('a'), Buffer.from('b')])));
    assert.not.ok(sameProof(proof, proofOf(key, 'client', [Buffer.from('a'), Buffer.from('c')])));
    assert.not.ok(sameProof(proof, proof.subarray(1)));
  });
});

const GATEWAY_OF_ONES = 'd636afb2cd8b31bb984ecac656b708a1fcb9a55118093921432e90043bcd30f4';
const RENDEZVOUS_OF_ONES = '04ea174cdfb5af14057459dc09e283eb44f51bab3c9211fb9d2ad2d9feaaed50';
