import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { assert, TfsError } from '../errors.ts';

/** Who may speak: every role has a key of its own, so that a gateway cannot speak as a NameServer. */
export const ROLES = ['nameserver', 'dataserver', 'gateway', 'operator'] as const;
export type Role = (typeof ROLES)[number];

export const KEY_BYTES = 32;
export const SECRET_BYTES_MIN = 16;

/** What a process of one role is given instead of the cluster secret; keys in hex. */
export interface ExportedRole {
  readonly role: Role;
  readonly key: string;
  readonly rendezvousKey: string;
}

/**
 * The keys that a process holds. Servers hold the cluster secret and so the key of every role; a gateway holds its own
 * key and the rendezvous key, neither of which leads back to the secret (HKDF-SHA256, RFC 5869).
 */
export class Keyring {
  readonly #roleKeys: ReadonlyMap<Role, Buffer>;
  /** Decides which DataServer a content goes to, so that nobody outside can aim at one. */
  readonly rendezvousKey: Buffer;

  private constructor(roleKeys: ReadonlyMap<Role, Buffer>, rendezvousKey: Buffer) {
    this.#roleKeys = roleKeys;
    this.rendezvousKey = rendezvousKey;
  }

  /** @throws TfsError CONFIG when the secret is too short to be one */
  static ofSecret(secret: Buffer): Keyring {
    if (secret.length < SECRET_BYTES_MIN)
      throw new TfsError(
        'CONFIG',
        `the cluster secret has ${secret.length} bytes; it needs ${SECRET_BYTES_MIN}`,
      );
    const keys = ROLES.map((role): [Role, Buffer] => [role, derive(secret, `role ${role}`)]);
    return new Keyring(new Map(keys), derive(secret, 'rendezvous'));
  }

  static ofRole(role: Role, key: Buffer, rendezvousKey: Buffer): Keyring {
    if (key.length !== KEY_BYTES || rendezvousKey.length !== KEY_BYTES)
      throw new TfsError('CONFIG', `the keys of role ${role} must have ${KEY_BYTES} bytes each`);
    return new Keyring(new Map([[role, key]]), rendezvousKey);
  }

  static ofExport(exported: ExportedRole): Keyring {
    const { role, key, rendezvousKey } = exported;
    return Keyring.ofRole(role, Buffer.from(key, 'hex'), Buffer.from(rendezvousKey, 'hex'));
  }

  /** @returns undefined when this process was not given the key of that role */
  roleKey(role: Role): Buffer | undefined {
    return this.#roleKeys.get(role);
  }

  exportRole(role: Role): ExportedRole {
    const key = this.#roleKeys.get(role);
    assert(key, `the key of role ${role} is held`);
    return { role, key: key.toString('hex'), rendezvousKey: this.rendezvousKey.toString('hex') };
  }
}

/** HMAC-SHA256 over a label, which keeps one use of a key apart from another, and the parts. */
export function proofOf(key: Buffer, label: string, parts: readonly Buffer[]): Buffer {
  const hmac = createHmac('sha256', key).update(label).update('\0');
  for (const part of parts) hmac.update(part);
  return hmac.digest();
}

/** In constant time. */
export const sameProof = (a: Buffer, b: Buffer): boolean => a.length === b.length && timingSafeEqual(a, b);

function derive(secret: Buffer, use: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), `tfs-images 1 ${use}`, KEY_BYTES));
}
