import { z } from 'zod';
import type { Config, MountConfig } from '../../common/config.ts';
import { TfsError } from '../../common/errors.ts';
import { serverId } from '../../common/ids.ts';
import { formatMount, readMount } from '../../dataserver/mount.ts';
import { readIfThere, recordPath, replaceFile } from './home.ts';

const zRecord = z.strictObject({
  clusterUuid: z.string(),
  /** Server id -> when its mount was formatted for this cluster. Never shrinks by itself. */
  mounts: z.record(z.string(), z.strictObject({ path: z.string(), formattedAt: z.string() })),
});
type ClusterRecord = z.infer<typeof zRecord>;

export interface MountSurvey {
  /** Not in the record yet, so to be formatted. */
  readonly fresh: MountConfig[];
  readonly known: MountConfig[];
  /** In the record, and now empty or gone: a disk that is not mounted, or was lost. Never formatted by itself. */
  readonly missing: MountConfig[];
}

/**
 * Compares the configured mounts with the cluster's own record of what it has formatted. That record, not the state of
 * a directory, decides what is new: formatting an empty mount point whose disk is just not mounted would hide the
 * disk's pictures and fill up the disk below.
 *
 * @throws TfsError CONFIG when the record belongs to another cluster or cannot be read
 */
export async function surveyMounts(config: Config): Promise<MountSurvey> {
  const record = await readRecord(config);
  const survey: MountSurvey = { fresh: [], known: [], missing: [] };
  for (const mount of config.mounts) {
    const recorded = record.mounts[String(mount.id)] !== undefined;
    if (!recorded) survey.fresh.push(mount);
    else if ((await readMount(mount.path)) === undefined) survey.missing.push(mount);
    else survey.known.push(mount);
  }
  return survey;
}

/**
 * Formats one mount and then records it. A crash between the two is harmless: the mount is then found formatted for
 * this server and only recorded.
 *
 * @throws TfsError REFUSED when the directory holds anything else
 */
export async function adoptMount(config: Config, mount: MountConfig): Promise<void> {
  const identity = await readMount(mount.path);
  const ours = identity?.clusterUuid === config.cluster.uuid && identity.server === mount.id;
  if (!ours)
    await formatMount({ path: mount.path, clusterUuid: config.cluster.uuid, server: serverId(mount.id) });
  const record = await readRecord(config);
  record.mounts[String(mount.id)] = { path: mount.path, formattedAt: new Date().toISOString() };
  await replaceFile(recordPath(config.home), `${JSON.stringify(record, null, 2)}\n`);
}

/** Ids of all mounts that were ever formatted for this cluster. @throws TfsError CONFIG as {@link surveyMounts} */
export async function everFormatted(config: Config): Promise<number[]> {
  return Object.keys((await readRecord(config)).mounts).map(Number);
}

async function readRecord(config: Config): Promise<ClusterRecord> {
  const file = recordPath(config.home);
  const text = await readIfThere(file);
  if (text === undefined) return { clusterUuid: config.cluster.uuid, mounts: {} };
  let record: ClusterRecord;
  try {
    record = zRecord.parse(JSON.parse(text));
  } catch (cause) {
    throw new TfsError(
      'CONFIG',
      `${file} is damaged. It lists the mounts this cluster has formatted: restore it, or remove it if every mount ` +
        'in config.json is attached and formatted',
      { cause },
    );
  }
  if (record.clusterUuid !== config.cluster.uuid)
    throw new TfsError(
      'CONFIG',
      `${file} is the record of cluster ${record.clusterUuid}, and config.json says ${config.cluster.uuid}: one of ` +
        'the two was copied from another cluster',
    );
  return record;
}
