import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import type { ConfigInput } from '../../../common/config.ts';
import type { HostPort } from '../../../common/ids.ts';
import { ask, type Front, type FrontAnswer } from '../../kit/front.ts';
import { ProcessCluster } from '../../kit/process-cluster.ts';
import type { TestContext } from '../../kit/suite.ts';

/** On a machine that has much else to do no picture is given up as one that hangs. */
export const PATIENT: ConfigInput['images'] = { decodeMsMax: 60_000 };

/** Two gateways over a small cluster: what the caches of these tests are in front of. */
export class Scene {
  readonly cluster: ProcessCluster;

  private constructor(cluster: ProcessCluster) {
    this.cluster = cluster;
  }

  static async start(t: TestContext, config: Partial<ConfigInput> = {}): Promise<Scene> {
    const { gateway, images, ...others } = config;
    const cluster = await ProcessCluster.start({
      mounts: 2,
      gateways: 2,
      config: {
        cluster: { uuid: randomBytes(16).toString('hex'), replicas: 2, minWrite: 2 },
        dataserver: { blockBytes: 16 << 20, spareBlocks: 0 },
        ...others,
        images: { ...PATIENT, ...images },
        // Its ports are those that are free.
        gateway: { ...gateway, maxPictureBytes: 8 << 20 } as ConfigInput['gateway'],
      },
    });
    t.defer(() => cluster.destroy());
    return new Scene(cluster);
  }

  get origins(): [HostPort, HostPort] {
    const [first, second] = this.cluster.urls.map(hostPortOf);
    return [first!, second!];
  }

  async store(body: Buffer): Promise<string> {
    const put = await this.cluster.put(body);
    assert.is(put.status, 201, put.text);
    return put.name;
  }

  /** What the gateways have answered, by status. */
  async answered(): Promise<Map<number, number>> {
    const sums = new Map<number, number>();
    for (const url of this.cluster.adminUrls) {
      const text = (await ask(`${url}/metrics`, 'GET', {})).body.toString();
      for (const [, status, count] of text.matchAll(
        /^tfs_gateway_picture_requests_total\{.*?status="(\d+)".*?\} (\d+)$/gm,
      ))
        sums.set(Number(status), (sums.get(Number(status)) ?? 0) + Number(count));
    }
    return sums;
  }

  /** See {@link deletedWhileRead}. */
  deletedWhileRead(name: string, caches: readonly Front[]): Promise<number> {
    const remove = () => this.cluster.act('DELETE', name);
    return deletedWhileRead(remove, everyWay(caches, this.cluster.urls, name));
  }

  /** Asks one gateway itself. */
  direct(path: string, headers: Record<string, string | string[]> = {}, gateway = 0): Promise<FrontAnswer> {
    return ask(`${this.cluster.urls[gateway]}/images/${path}`, 'GET', headers);
  }
}

const hostPortOf = (url: string): HostPort => {
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port) };
};

/** Noise, so that no two are alike and the size is what is asked for, more or less. */
export const noise = (width: number, height: number): Promise<Buffer> =>
  sharp(randomBytes(width * height * 3), { raw: { width, height, channels: 3 } })
    .jpeg({ quality: 90 })
    .toBuffer();

export const headerOf = ({ headers }: FrontAnswer, name: string): string => {
  const value = headers[name];
  return Array.isArray(value) ? value.join(', ') : (value ?? '');
};

/** The last word of `X-Cache: L2 HIT`, at the cache that the client talks to. */
export const cacheStatus = (answer: FrontAnswer): string =>
  headerOf(answer, 'x-cache').split(' ').at(-1) ?? '';

/**
 * Readers that ask for one picture in every way, all the time, and note when an answer still had it.
 */
export class Readers {
  readonly #loops: Promise<void>[];
  #stopped = false;
  /** Clock readings of the requests that were answered with the picture. */
  #shownAt: number[] = [];
  reads = 0;
  /** What was answered that is neither the picture nor 404. */
  readonly failures = new Set<string>();

  constructor(asks: readonly (() => Promise<FrontAnswer>)[]) {
    this.#loops = asks.map((one) => this.#loop(one));
  }

  async #loop(one: () => Promise<FrontAnswer>): Promise<void> {
    while (!this.#stopped) {
      const askedAt = performance.now();
      try {
        const { status, body } = await one();
        this.reads++;
        if (status === 200 || status === 206) this.#shownAt.push(askedAt);
        else if (status !== 404) this.failures.add(`${status} ${body.toString('latin1').slice(0, 200)}`);
      } catch (error) {
        if (!this.#stopped) this.failures.add(String(error));
      }
      await sleep(5);
    }
  }

  /** When the last request began that was answered with the picture. */
  get lastShownAt(): number {
    return Math.max(0, ...this.#shownAt);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#loops);
  }
}

/** No cache and no gateway may show it again once this has passed; the figure says how long it really took. */
const GONE_MS_MAX = 20_000;
const WATCH_MS = 3_000;

/**
 * Deletes a picture while everybody reads it, and watches that it goes and does not come back.
 *
 * @param remove answers with the status of the delete
 * @returns how long after the delete was acknowledged the last request began that was still answered with it
 */
export async function deletedWhileRead(
  remove: () => Promise<number>,
  asks: readonly (() => Promise<FrontAnswer>)[],
): Promise<number> {
  const readers = new Readers(asks);
  try {
    await sleep(500);
    assert.ok(readers.lastShownAt > 0, 'it is shown');
    assert.is(await remove(), 204);
    const deletedAt = performance.now();
    while (performance.now() - Math.max(deletedAt, readers.lastShownAt) < WATCH_MS) {
      assert.ok(performance.now() - deletedAt < GONE_MS_MAX, 'it is still shown');
      await sleep(100);
    }
    assert.equal([...readers.failures], []);
    return Math.max(0, readers.lastShownAt - deletedAt);
  } finally {
    await readers.stop();
  }
}

/** All the ways in which a picture is read while it is deleted, through caches and at the gateways themselves. */
export const everyWay = (caches: readonly Front[], urls: readonly string[], name: string) => [
  ...caches.flatMap((cache) => [
    () => cache.get(`${name}.jpg`),
    () => cache.get(name, { range: 'bytes=100-200' }),
    () => cache.get(`${name}.jpg_310x310.jpg`),
    () => cache.get(`${name}.jpg?w=240&h=240&fm=webp`),
    () => cache.get(`${name}?p=thumb`, { accept: 'image/avif,image/webp,*/*' }),
    () => cache.get(`${name}?p=thumb`, { accept: 'image/webp,*/*' }),
  ]),
  ...urls.flatMap((url) =>
    [name, `${name}.jpg_310x310.jpg`].map((path) => () => ask(`${url}/images/${path}`, 'GET', {})),
  ),
];

export const figure = (label: string, ms: number): void => {
  process.stdout.write(
    `\nFIGURE ${label}: ${ms.toFixed(0)} ms after a delete the last answer had the picture\n`,
  );
};

/** Caches that the gateways purge. @param tiers ports of those that ask the gateways, then of those that ask these */
export const purged = (...tiers: readonly (readonly number[])[]): ConfigInput['purge'] => ({
  caches: tiers.flatMap((ports, i) =>
    ports.map((port) => ({
      id: `cache-${port}`,
      kind: 'purge' as const,
      url: `http://127.0.0.1:${port}`,
      tier: i + 1,
    })),
  ),
});
