import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ProcessCluster, tinyPng } from './process-cluster.ts';

export interface Acked {
  readonly name: string;
  readonly sha1: string;
  readonly bytes: number;
  deleted: boolean;
}

/**
 * Clients that upload (and now and then delete) until stopped, and remember what was acknowledged. What failed is
 * counted, not remembered: it may or may not exist.
 */
export class UploadLoad {
  readonly acked: Acked[] = [];
  failed = 0;
  /** Now and then one that was just stored. */
  deleting = true;
  readonly #cluster: ProcessCluster;
  readonly #workers: Promise<void>[];
  #stopped = false;

  constructor(cluster: ProcessCluster, clients = 8, bytesMax = 40_000) {
    this.#cluster = cluster;
    this.#workers = Array.from({ length: clients }, (_, i) => this.#work(bytesMax, i));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#workers);
  }

  async #work(bytesMax: number, seed: number): Promise<void> {
    for (let n = seed; !this.#stopped; n++) {
      const body = tinyPng(randomBytes(16), 64 + Math.floor(Math.random() * bytesMax));
      try {
        const reply = await this.#cluster.put(body);
        if (reply.status !== 201) {
          this.failed++;
          await sleep(20);
          continue;
        }
        const acked: Acked = {
          name: reply.name,
          sha1: createHash('sha1').update(body).digest('hex'),
          bytes: body.length,
          deleted: false,
        };
        if (this.deleting && n % 10 === 3) {
          // Until the answer is there, the delete may or may not have happened: remember only what is certain.
          const status = await this.#cluster.act('DELETE', reply.name);
          if (status !== 204) continue;
          acked.deleted = true;
        }
        this.acked.push(acked);
      } catch {
        // The gateway is down: not an ack.
        this.failed++;
        await sleep(20);
      }
    }
  }
}

/** Reads everything back. @returns a line for each picture that is lost, altered or back from the dead */
export async function verifyAcked(
  cluster: ProcessCluster,
  acked: readonly Acked[],
  clients = 8,
): Promise<string[]> {
  const wrong: string[] = [];
  let next = 0;
  const check = async (): Promise<void> => {
    while (next < acked.length) {
      const picture = acked[next++]!;
      let got = await cluster.get(picture.name);
      for (let tries = 0; got.status === 503 && tries < 50; tries++) {
        await sleep(100);
        got = await cluster.get(picture.name);
      }
      if (picture.deleted) {
        if (got.status !== 404) wrong.push(`${picture.name}: deleted, but answers ${got.status}`);
      } else if (got.status !== 200) {
        wrong.push(
          `${picture.name}: acked, but answers ${got.status} ${got.body.toString('utf8').slice(0, 200)}`,
        );
      } else if (createHash('sha1').update(got.body).digest('hex') !== picture.sha1) {
        wrong.push(`${picture.name}: 200 with other bytes`);
      }
    }
  };
  await Promise.all(Array.from({ length: clients }, check));
  return wrong;
}
