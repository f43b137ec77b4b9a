import { join } from 'node:path';
import { type Bench, type BenchContext, scaled } from './bench.ts';
import type { Child } from './child.ts';
import { Cluster } from './cluster.ts';
import { cpuByProcess, LOAD_COLUMNS, loadCells, type Measured, measureLoad } from './measure.ts';
import { dropCached } from './page-cache.ts';
import { startHttp, startNginx, startYardstick } from './peers.ts';
import { pictureOf } from './picture.ts';
import { type Cell, ratio, type Table } from './table.ts';

const SIZE = 10 * 1024;
const CLIENTS = 16;
const HOT_PICTURES = 64;
const WARM_PICTURES = 5_000;
const COLD_PICTURES = 20_000;

/** GET of 10 KB pictures: from the gateway's memory, from the DataServers' page cache, from the disk. */
export const getBench: Bench = {
  name: 'get',
  title: 'GET 10 KB hot, warm and cold, beside nginx, node:http and the yardstick',
  async run(context) {
    const beside = await measurePeers(context);
    const hot = await Cluster.start(context, 'hot');
    const hotPaths = await hot.fill(1, HOT_PICTURES, SIZE);
    const inMemory = await get(context, hot.port, hotPaths, hot.children);
    await hot.stop();

    // Without memory for pictures in the gateway every GET goes to a DataServer.
    const cluster = await Cluster.start(context, 'stored', { gateway: { hotBytes: 0 } });
    const count = scaled(context, COLD_PICTURES, 500);
    context.say(`storing ${count} pictures`);
    const paths = shuffled(await cluster.fill(1, count, SIZE));
    const warmPaths = paths.slice(0, WARM_PICTURES);
    await cluster.sparesReady();
    const warm = await get(context, cluster.port, warmPaths, cluster.children);
    await cluster.sparesReady();
    const isCold = cluster.config.mounts.every((mount) => dropCached(join(mount.path, 'blocks')));
    // Short, so that no picture comes round twice.
    const cold = await get({ ...context, seconds: 1 }, cluster.port, paths, cluster.children, false);
    await cluster.stop();
    return [tableOf(beside, { inMemory, warm, cold: isCold ? cold : undefined }, count)];
  },
};

interface Beside {
  readonly nginx: Measured | undefined;
  readonly http: Measured;
  readonly yardstick: Measured | undefined;
}

async function measurePeers(context: BenchContext): Promise<Beside> {
  const files = new Map(
    Array.from({ length: HOT_PICTURES }, (_, i) => [`${i}.jpg`, pictureOf(i, SIZE)] as const),
  );
  const paths = [...files.keys()].map((name) => `/${name}`);
  const nginx = await startNginx(context, files);
  const ofNginx = nginx && (await get(context, nginx.port, paths, nginx.processes));
  await nginx?.stop();
  const http = await startHttp(context, SIZE);
  const ofHttp = await get(context, http.port, paths, http.processes);
  await http.stop();
  const yardstick = await startYardstick(context, false);
  const ofYardstick = yardstick && (await get(context, yardstick.port, ['/x'], yardstick.processes));
  await yardstick?.stop();
  return { nginx: ofNginx, http: ofHttp, yardstick: ofYardstick };
}

async function get(
  context: BenchContext,
  port: number,
  paths: readonly string[],
  processes: readonly Child[],
  warmUp = true,
): Promise<Measured> {
  const { directory, seconds } = context;
  const load = { port, clients: CLIENTS, seconds, directory, ask: { method: 'GET' as const, paths } };
  // A young process runs code that is not optimized yet.
  if (warmUp) await measureLoad(load, processes);
  return measureLoad(load, processes);
}

function tableOf(
  { nginx, http, yardstick }: Beside,
  own: { readonly inMemory: Measured; readonly warm: Measured; readonly cold: Measured | undefined },
  count: number,
): Table {
  const row = (name: string, m: Measured | undefined): Cell[] => [
    name,
    ...(m === undefined ? LOAD_COLUMNS.map(() => undefined) : loadCells(m)),
    ratio(m?.perSecond, nginx?.perSecond),
    ratio(m?.perSecond, http.perSecond),
    ratio(m?.perSecond, yardstick?.perSecond),
  ];
  return {
    title: `GET 10 KB, ${CLIENTS} clients, one worker of each server`,
    columns: ['', ...LOAD_COLUMNS, 'to nginx', 'to node:http', 'to yardstick'],
    rows: [
      row('nginx static', nginx),
      row('node:http, from memory', http),
      row('yardstick, through its storage process', yardstick),
      row('gateway, hot picture', own.inMemory),
      row('gateway -> DataServer, page cache', own.warm),
      row('gateway -> DataServer, disk', own.cold),
    ],
    notes: [
      `warm: ${cpuByProcess(own.warm)}`,
      `Cold: ${count} pictures whose pages the system was asked to forget before` +
        `${own.cold !== undefined && own.cold.count > count ? '; some came round twice' : ''}.`,
    ],
  };
}

function shuffled<T>(items: readonly T[]): T[] {
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const k = Math.floor(Math.random() * (i + 1));
    [out[i], out[k]] = [out[k]!, out[i]!];
  }
  return out;
}
