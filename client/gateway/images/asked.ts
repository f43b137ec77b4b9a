import { LRUCache } from 'lru-cache';
import { NAME_LENGTH } from '../../../common/name.ts';
import type { TfsClient } from '../../client.ts';
import type { PictureKey } from '../../reader.ts';
import { decoded } from '../percent.ts';
import type { Policy } from './policy.ts';
import { type ImageRequest, imageRequest, type Presets } from './request.ts';
import type { Settled } from './settled.ts';

/** A URL that was understood, and is for everybody or has a signature that is looked at each time. */
export interface Asked {
  /** 18 characters. */
  readonly name: string;
  readonly key: PictureKey;
  readonly request: ImageRequest;
  /** The header Accept decides about the format. */
  readonly varies: boolean;
  /** What it comes to, by the header Accept where that decides; a name's content, and so this, never changes. */
  readonly settled: Map<string, Settled>;
}

const URLS_MAX = 10_000;
/** What is longer is understood anew each time. */
const URL_CHARS_MAX = 300;

/** Understands URLs of pictures, those that come again and again only once. */
export class AskedUrls {
  readonly #client: TfsClient;
  readonly #policy: Policy;
  readonly #presets: Presets;
  readonly #kept = new LRUCache<string, Asked>({ max: URLS_MAX });

  constructor(client: TfsClient, policy: Policy, presets: Presets) {
    this.#client = client;
    this.#policy = policy;
    this.#presets = presets;
  }

  /**
   * @param target what follows the prefix, as it came: name, tail and perhaps a query
   * @param nowMs wall clock
   * @throws TfsError BAD_NAME, NOT_FOUND for a name of another cluster, BAD_REQUEST, FORBIDDEN with the reason
   */
  understand(target: string, nowMs: number): Asked {
    const kept = this.#kept.get(target);
    if (kept !== undefined) {
      if (kept.request.signing.size > 0) this.#policy.check(kept.name, kept.request, nowMs);
      return kept;
    }
    const at = target.indexOf('?');
    const path = decoded(at < 0 ? target : target.slice(0, at));
    const { block, fileId, cookie, tail } = this.#client.parse(path);
    const name = path.slice(0, NAME_LENGTH);
    const request = imageRequest(tail, at < 0 ? '' : target.slice(at + 1), this.#presets);
    this.#policy.check(name, request, nowMs);
    const asked: Asked = {
      name,
      key: { block, fileId, cookie },
      request,
      varies: request.rendition?.format === 'auto',
      settled: new Map(),
    };
    if (target.length <= URL_CHARS_MAX) this.#kept.set(target, asked);
    return asked;
  }
}
