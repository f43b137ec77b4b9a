import { createHash, hash } from 'node:crypto';
import type { ServerId } from '../common/ids.ts';

/** A DataServer and its share: the configured capacity, never the free space, or the same content would wander. */
export interface Weighted {
  readonly id: ServerId;
  readonly weight: number;
}

/** What a content hashes to, keyed so that nobody outside can aim pictures at one server. */
export interface ContentKey {
  readonly high: number;
  readonly low: number;
}

const SHA256_BLOCK_BYTES = 64;
const SHA256_BYTES = 32;
const SHA1_BYTES = 20;

/**
 * HMAC-SHA256 (RFC 2104) of SHA-1 digests under one key. Written out with two one-shot hashes over buffers that are
 * used again: setting up the library's HMAC costs five times as much as these few bytes, and every upload pays for it.
 */
export class ContentKeys {
  readonly #inner = Buffer.alloc(SHA256_BLOCK_BYTES + SHA1_BYTES);
  readonly #outer = Buffer.alloc(SHA256_BLOCK_BYTES + SHA256_BYTES);

  constructor(rendezvousKey: Buffer) {
    const long = rendezvousKey.length > SHA256_BLOCK_BYTES;
    const key = long ? createHash('sha256').update(rendezvousKey).digest() : rendezvousKey;
    for (let i = 0; i < SHA256_BLOCK_BYTES; i++) {
      this.#inner[i] = (key[i] ?? 0) ^ 0x36;
      this.#outer[i] = (key[i] ?? 0) ^ 0x5c;
    }
  }

  of(sha1: Buffer): ContentKey {
    sha1.copy(this.#inner, SHA256_BLOCK_BYTES);
    hash('sha256', this.#inner, 'buffer').copy(this.#outer, SHA256_BLOCK_BYTES);
    const digest = hash('sha256', this.#outer, 'buffer');
    return { high: digest.readUInt32LE(0), low: digest.readUInt32LE(4) };
  }
}

/**
 * Every server, the one that should store this content first. The same content gets the same order from every
 * client; a server that comes or goes moves only its own share.
 *
 * Weighted rendezvous hashing (Schindelhauer and Schomaker 2005; Mosharaf's logarithmic method): the greatest
 * -weight / ln(u) wins, u uniform in (0, 1) from content and server.
 */
export function rank(content: ContentKey, servers: readonly Weighted[]): ServerId[] {
  const scored = servers.map((server) => ({ id: server.id, score: score(content, server) }));
  scored.sort((a, b) => b.score - a.score || a.id - b.id);
  return scored.map((server) => server.id);
}

function score({ high, low }: ContentKey, { id, weight }: Weighted): number {
  const salt = mix(Math.imul(id, 0x9e3779b1));
  const upper = mix(high ^ salt);
  const lower = mix(low ^ Math.imul(salt, 0x85ebca77));
  // 53 bits, and half a step, so that u is never 0 or 1.
  const u = (upper * 2 ** 21 + (lower >>> 11) + 0.5) / 2 ** 53;
  return -weight / Math.log(u);
}

/** The finalizer of MurmurHash3: every input bit flips every output bit with probability near one half. */
function mix(value: number): number {
  let h = value;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Where a reader starts among `count` replicas: all readers of one picture agree, different pictures spread. */
export function spread(block: number, file: number, count: number): number {
  return mix(block ^ mix(file)) % count;
}
