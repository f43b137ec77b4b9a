import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { ImagesConfig } from '../../../common/config-images.ts';
import { TfsError } from '../../../common/errors.ts';
import type { Millis } from '../../../common/ids.ts';
import type { ImageKey } from '../../../common/image-keys.ts';
import type { Log } from '../../../common/log.ts';
import { NAME_LENGTH } from '../../../common/name.ts';
import type { Clock } from '../../../common/seams/clock.ts';
import type { TfsClient } from '../../client.ts';
import type { CacheRules } from '../cache-rules.ts';
import type { GatewayMetrics } from '../gateway-metrics.ts';
import type { HotPictures } from '../hot-pictures.ts';
import type { PictureSender } from '../picture-sender.ts';
import { AskedUrls } from './asked.ts';
import { Decoders } from './decoders.ts';
import { DiskCache } from './disk-cache.ts';
import { publishImages } from './image-metrics.ts';
import { ImageServer } from './image-server.ts';
import { MemoryCache } from './memory-cache.ts';
import { Originals } from './originals.ts';
import { Policy } from './policy.ts';
import { presetsOf } from './presets.ts';
import { Renditions } from './renditions.ts';
import { settle } from './settled.ts';
import { Siblings } from './siblings.ts';
import { SigningKeys } from './signature.ts';

export interface ImagesOptions {
  readonly config: ImagesConfig;
  readonly keys: readonly ImageKey[];
  /** Where this worker meets the others of its gateway. */
  readonly socketDirectory: string;
  /** Which worker this is, 0.. */
  readonly index: number;
  /** How many there are. */
  readonly count: number;
  /** Decoders of this worker. */
  readonly decoders: number;
}

interface ImagesParts {
  readonly client: TfsClient;
  readonly clock: Clock;
  readonly hot: HotPictures;
  readonly log: Log;
  readonly metrics: GatewayMetrics;
  readonly rules: CacheRules;
  readonly sender: PictureSender;
  /** A sibling has heard that the state of a picture changes. */
  readonly onTold: (name: string) => void;
}

/** All of a gateway that has to do with renditions. */
export class Images {
  readonly urls: AskedUrls;
  readonly server: ImageServer;
  readonly decoders: Decoders;
  readonly #originals: Originals;
  readonly #renditions: Renditions;
  readonly #memory: MemoryCache;
  readonly #siblings: Siblings;
  readonly #disk: DiskCache | undefined;

  /** @throws TfsError CONFIG for a preset that is none, or a place that cannot be used */
  static async open(options: ImagesOptions, parts: ImagesParts): Promise<Images> {
    const { config } = options;
    const { client, log, onTold } = parts;
    const disk =
      config.diskBytes === 0
        ? undefined
        : await DiskCache.open({
            directory: config.diskDir,
            bytesMax: config.diskBytes,
            clock: parts.clock,
            log,
          });
    let images: Images | undefined;
    const flavour = `${config.keepCopyright ? 'c' : ''}-${makerVersion()}`;
    const siblings = await Siblings.open({
      directory: options.socketDirectory,
      index: options.index,
      count: options.count,
      log,
      changed: (name) => {
        onTold(name);
        images?.forget(name);
      },
      make: async (name, rendition) => {
        if (images === undefined) throw new TfsError('UNAVAILABLE', 'this worker is starting');
        const { block, fileId, cookie } = client.parse(name.slice(0, NAME_LENGTH));
        const { original } = await images.#originals.find(name, { block, fileId, cookie });
        const settled = settle(rendition, original, { accept: undefined, modern: [], flavour });
        const ready =
          images.#renditions.ready(settled.id) ?? (await images.#renditions.get(original, settled, true));
        return ready.rendition;
      },
    });
    images = new Images(options, parts, { siblings, disk, flavour });
    return images;
  }

  private constructor(
    { config, keys, decoders }: ImagesOptions,
    { client, clock, hot, log, metrics, rules, sender }: ImagesParts,
    { siblings, disk, flavour }: { siblings: Siblings; disk: DiskCache | undefined; flavour: string },
  ) {
    const policy = new Policy({
      mode: config.policy,
      sizes: new Set(config.sizes),
      qualities: new Set(config.qualities),
      signedOriginals: config.signedOriginals,
      keys: new SigningKeys(keys),
    });
    this.urls = new AskedUrls(client, policy, presetsOf(config.presets));
    this.decoders = new Decoders({
      children: decoders,
      decodeMsMax: config.decodeMsMax,
      memoryBytesMax: config.decoderBytesMax,
      waitingMegapixelsMax: config.waitingMegapixelsMax,
      limits: {
        pixelsMax: config.pixelsMax,
        framesMax: config.framesMax,
        bytesMax: config.renditionBytesMax,
        keepCopyright: config.keepCopyright,
      },
      log,
    });
    this.#disk = disk;
    this.#siblings = siblings;
    this.#memory = new MemoryCache(config.memoryBytes, rules);
    this.#originals = new Originals(
      client,
      clock,
      (name) => this.#drop(name),
      // Nobody would ask any more whether it may still be shown.
      (name) => this.#memory.forget(name),
    );
    this.#renditions = new Renditions({
      ...{ clock, hot, memory: this.#memory, disk, decoders: this.decoders, elsewhere: siblings },
      pixelsMax: config.pixelsMax,
      failureMs: (config.cacheControl.undecodableSeconds * 1000) as Millis,
    });
    this.server = new ImageServer({
      ...{ originals: this.#originals, renditions: this.#renditions, sender, rules, clock, flavour },
      modern: config.formats,
      isPrivate: config.signedOriginals,
    });
    publishImages(metrics, {
      renditions: this.#renditions,
      decoders: this.decoders,
      memory: this.#memory,
      disk,
    });
  }

  /** Decoders are there before somebody waits for them. */
  warm(): void {
    this.decoders.warm();
  }

  /** The state of a picture changes, and this worker is the first to hear it. Resolves when the others know. */
  changed(name: string): Promise<void> {
    this.forget(name);
    return this.#siblings.tell(name);
  }

  forget(name: string): void {
    this.#originals.forget(name);
    this.#drop(name);
  }

  /** To be called now and then: what nobody has vouched for is let go of. */
  sweep(): void {
    for (const name of this.#originals.sweep()) this.#memory.forget(name);
  }

  async close(): Promise<void> {
    await Promise.all([this.#siblings.close(), this.decoders.close()]);
    await this.#disk?.close();
  }

  #drop(name: string): void {
    void this.#renditions.forget(name);
  }
}

/** Of what encodes: another version of it may make other bytes of the same request. */
function makerVersion(): string {
  const entry = createRequire(import.meta.url).resolve('sharp');
  const text = readFileSync(join(dirname(entry), '..', 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** Of sockets, in the home of the cluster. */
export const socketDirectoryOf = (home: string): string => join(home, 'run');
