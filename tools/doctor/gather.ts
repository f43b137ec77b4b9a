import { stat } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import type { Config, MountConfig } from '../../common/config.ts';
import { TfsError, toTfsError } from '../../common/errors.ts';
import { redisAddress } from '../../common/redis-address.ts';
import { readMount } from '../../dataserver/mount.ts';
import { openClusterView } from '../cluster/cluster-view.ts';
import { lastErrorOf } from '../cluster/log-files.ts';
import { surveyMounts } from '../cluster/mounts.ts';
import { pm2Of } from '../cluster/pm2.ts';
import { listProcesses, type ProcessRow } from '../cluster/processes.ts';
import { evictionPolicyOf, withoutPassword } from '../cluster/redis.ts';
import type { Facts, MountFacts, RedisFacts, SeenProcess } from './facts.ts';
import { managedName } from './process-findings.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** A disk that hangs must not make this hang. */
const LOOK_MS_MAX = 2_000;

/** Looks at a cluster from this machine: servers, processes, Redis, disks. What does not answer is a fact too. */
export async function gatherFacts(config: Config, env: Env): Promise<Facts> {
  const pm2 = pm2Of(config.home, env);
  const isManaged = await pm2.alive();
  const view = await openClusterView(config);
  try {
    const [nameservers, figures, processes, redis, mounts] = await Promise.all([
      view.nameservers(),
      view.figures(),
      pm2.list().then((managed) => listProcesses(config, managed, env)),
      lookAtRedis(config, env),
      lookAtMounts(config),
    ]);
    return {
      replicas: config.cluster.replicas,
      minWrite: config.cluster.minWrite,
      blockBytes: config.dataserver.blockBytes,
      isManaged,
      processes: await Promise.all(processes.map((row) => withLastError(config, row))),
      nameservers,
      redis,
      mounts,
      figures,
      scrubPassMs: config.dataserver.scrubPassMs,
      nowMs: Date.now(),
    };
  } finally {
    await view.close();
  }
}

async function withLastError(config: Config, row: ProcessRow): Promise<SeenProcess> {
  const isFine = row.healthy && row.restarts === 0;
  const lastError = isFine ? undefined : await lastErrorOf(config, managedName(row));
  return { ...row, lastError: lastError ?? null };
}

async function lookAtRedis(config: Config, env: Env): Promise<RedisFacts> {
  const url = await redisAddress(config, env);
  const address = withoutPassword(url);
  try {
    const policy = await evictionPolicyOf(url);
    if (policy === 'noeviction' || policy === undefined) return { address, state: 'up', why: undefined };
    const why = `its maxmemory-policy is ${policy}: when its memory is full it drops keys, among them the lock that tells who leads`;
    return { address, state: 'evicts', why };
  } catch (error) {
    return { address, state: 'unreachable', why: toTfsError(error).message };
  }
}

async function lookAtMounts(config: Config): Promise<MountFacts[]> {
  const local = config.mounts.filter(({ host }) => isHere(host));
  const fresh = await inTime(
    surveyMounts(config).then((survey) => new Set(survey.fresh.map(({ id }) => id))),
  ).catch(() => undefined);
  return Promise.all(local.map((mount) => lookAtMount(config, mount, fresh)));
}

/** @param fresh ids of mounts that were never formatted; undefined when that is not known */
async function lookAtMount(
  config: Config,
  { id, path }: MountConfig,
  fresh: ReadonlySet<number> | undefined,
): Promise<MountFacts> {
  const mount = { server: id, path };
  try {
    const identity = await inTime(readMount(path));
    const isNew = identity === undefined && fresh?.has(id) === true;
    if (isNew) return { ...mount, state: 'new', why: undefined, device: undefined };
    if (identity === undefined) return { ...mount, state: 'missing', why: undefined, device: undefined };
    const { dev } = await inTime(stat(path));
    const { clusterUuid, server } = identity;
    if (clusterUuid !== config.cluster.uuid)
      return { ...mount, state: 'foreign', why: `it belongs to cluster ${clusterUuid}`, device: dev };
    if (server !== id)
      return { ...mount, state: 'foreign', why: `it is the disk of DataServer ${server}`, device: dev };
    return { ...mount, state: 'ours', why: undefined, device: dev };
  } catch (error) {
    return { ...mount, state: 'unreadable', why: toTfsError(error).message, device: undefined };
  }
}

function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new TfsError('IO', `it did not answer within ${LOOK_MS_MAX / 1000} s: the disk hangs`);
    timer = setTimeout(() => reject(error), LOOK_MS_MAX);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

function isHere(host: string): boolean {
  if (host === 'localhost' || host === '0.0.0.0' || host === '::') return true;
  return Object.values(networkInterfaces()).some((addresses) =>
    addresses?.some(({ address }) => address === host),
  );
}
