import { z } from 'zod';
import { TfsError } from '../common/errors.ts';
import { formatHostPort, type HostPort, incarnationOf, serverId } from '../common/ids.ts';
import { ELIGIBLE_HEARTBEAT_AGE_MS_MAX } from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import { compareReigns, type Register, zReign } from '../common/wire/control.ts';
import { type NameServerFaults, NO_FAULTS } from './faults.ts';

/**
 * What tells a disk from an older copy of itself: each registration leaves a new nonce on it. The two given last are
 * good, because an answer may be lost or overtaken, and so is the one that was shown when the last was given.
 */
const zNonces = z.object({
  /** Newest first. */
  given: z.array(z.string()).max(2),
  /** Absent while none was ever shown: then none need be. */
  shown: z.string().optional(),
});
export type Nonces = z.infer<typeof zNonces>;

/** What a NameServer keeps durably of each DataServer that ever registered. */
export const zMemberRecord = z.object({
  id: z.number().transform(serverId),
  incarnation: z.number().transform(incarnationOf),
  pid: z.number(),
  address: z.object({ host: z.string(), port: z.number() }),
  adminPort: z.number(),
  mount: z.string(),
  domain: z.string(),
  capacityBytes: z.number(),
  blockBytes: z.number(),
  promise: zReign,
  nonces: zNonces.optional(),
  /** The highest that it has shown, see `zRegister`; absent while it has shown none. */
  diskAge: z.number().optional(),
});
export type MemberRecord = z.infer<typeof zMemberRecord>;

export interface Registered {
  readonly record: MemberRecord;
  /** Infinity when it has not been heard since this NameServer started. */
  readonly heardAgoMs: number;
}

/**
 * Whether a DataServer may join as what it says it is.
 *
 * A mount that was restored from an older copy has forgotten what it acknowledged; it shows by an incarnation or a
 * promise that is not above the ones it showed before, by the nonce of an earlier registration, or by the age of the
 * disk. Its data must not count as a replica again.
 *
 * @throws TfsError REFUSED, with what to do
 */
export function checkRegistration(
  register: Register,
  {
    clusterUuid,
    before,
    faults = NO_FAULTS,
  }: { clusterUuid: string; before: Registered | undefined; faults?: NameServerFaults },
): void {
  const { server } = register;
  if (register.clusterUuid !== clusterUuid)
    throw refused(
      `the mount ${register.mount} belongs to cluster ${register.clusterUuid}, this is cluster ${clusterUuid}: ` +
        'correct mounts[].path or cluster.uuid in config.json',
    );
  if (before === undefined) return;
  const { record, heardAgoMs } = before;
  const isElsewhere = !sameAddress(record.address, register.address);
  if (isElsewhere && heardAgoMs < ELIGIBLE_HEARTBEAT_AGE_MS_MAX) {
    mark('second-process-refused');
    throw refused(
      `server ${server} is alive at ${formatHostPort(record.address)} (pid ${record.pid}, mount ${record.mount}): ` +
        'stop one of the two, or give this mount an id of its own',
    );
  }
  if (faults.has('admit-set-back')) return;
  const again = 'give the mount a new id and format it empty; the other replicas have what it held';
  const isSameProcess =
    register.incarnation === record.incarnation && register.pid === record.pid && !isElsewhere;
  if (register.incarnation <= record.incarnation && !isSameProcess)
    throw setBack(
      `server ${server} shows incarnation ${register.incarnation}, and ${record.incarnation} was seen before ` +
        `(pid ${record.pid} at ${formatHostPort(record.address)}): a second process on a copy of the mount, ` +
        `or a mount restored from an older copy: ${again}`,
    );
  if (compareReigns(register.promise, record.promise) < 0)
    throw setBack(
      `server ${server} shows promise ${register.promise.epoch}, and ${record.promise.epoch} was seen before: ` +
        `its mount was restored from an older copy: ${again}`,
    );
  if (isSetBack(record.nonces, register.nonce))
    throw setBack(
      `server ${server} shows ${register.nonce === undefined ? 'no nonce' : 'the nonce'} of an earlier registration ` +
        `than its last: its mount ${register.mount} was set back to an older copy, which lacks what was acknowledged ` +
        `since: ${again}`,
    );
  if (isYounger(record.diskAge, register.diskAge))
    throw setBack(
      `server ${server} shows a disk that was in service for ${register.diskAge} s, and ${record.diskAge} s were seen ` +
        `before: its mount ${register.mount} was set back to an older copy, which lacks what was acknowledged since: ${again}`,
    );
}

/** Whether a disk shows less than it has shown; one that shows nothing is served by a version that did not count. */
const isYounger = (known: number | undefined, shown: number | undefined): boolean =>
  known !== undefined && shown !== undefined && shown < known;

/**
 * Whether a disk that shows this is older than the one that registered last. One that shows what this NameServer has
 * not given yet is newer than its own records, which were set back themselves.
 */
export function isSetBack(known: Nonces | undefined, shown: string | undefined): boolean {
  if (known === undefined) return false;
  if (shown === undefined) return known.shown !== undefined;
  if (known.given.includes(shown) || shown === known.shown) return false;
  return countOf(shown) <= countOf(known.given[0]);
}

/** @param random 4 bytes @returns with a new nonce first in `given`, 16 hex digits: a count, and what nobody can guess */
export function withNonce(known: Nonces | undefined, shown: string | undefined, random: Buffer): Nonces {
  const count = Math.max(countOf(known?.given[0]), countOf(shown)) + 1;
  const nonce = count.toString(16).padStart(8, '0') + random.toString('hex');
  const given = [nonce, ...(known?.given.slice(0, 1) ?? [])];
  return shown === undefined ? { given } : { given, shown };
}

const countOf = (nonce: string | undefined): number =>
  nonce === undefined ? 0 : Number.parseInt(nonce.slice(0, 8), 16);

/** @param knownAge the highest that this disk has shown before */
export function recordOf(register: Register, nonces: Nonces, knownAge?: number): MemberRecord {
  const { incarnation, pid, address, adminPort, mount, domain, capacityBytes, blockBytes, promise } =
    register;
  const ages = [knownAge, register.diskAge].filter((age) => age !== undefined);
  return {
    id: register.server,
    incarnation,
    pid,
    address,
    adminPort,
    mount,
    domain,
    capacityBytes,
    blockBytes,
    promise,
    nonces,
    ...(ages.length === 0 ? {} : { diskAge: Math.max(...ages) }),
  };
}

export const sameAddress = (a: HostPort, b: HostPort): boolean => a.host === b.host && a.port === b.port;

const refused = (message: string): TfsError => new TfsError('REFUSED', message);

function setBack(message: string): TfsError {
  mark('restored-copy-refused');
  return refused(message);
}
