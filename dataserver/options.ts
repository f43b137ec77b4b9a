import type { TfsError } from '../common/errors.ts';
import type { HostPort, ServerId } from '../common/ids.ts';
import type { Log } from '../common/log.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Disk } from '../common/seams/disk.ts';
import type { JobQueues } from '../common/seams/job-queue.ts';
import type { Kv } from '../common/seams/kv.ts';
import type { Net } from '../common/seams/net.ts';
import type { Random } from '../common/seams/random.ts';
import type { Keyring } from '../common/wire/keys.ts';
import type { Faults } from './block/store.ts';

/** 0 or 1, and where it is. */
export interface NameServerAddress extends HostPort {
  readonly id: number;
}

export interface DataServerOptions {
  readonly clusterUuid: string;
  readonly server: ServerId;
  readonly address: HostPort;
  readonly adminPort: number;
  readonly nameservers: readonly NameServerAddress[];
  /** The mount, opened and checked. */
  readonly disk: Disk;
  readonly mountPath: string;
  readonly kv: Kv;
  readonly net: Net;
  readonly clock: Clock;
  readonly random: Random;
  readonly keyring: Keyring;
  readonly log: Log;
  readonly domain: string;
  /** Weight in placement; the size of the file system when absent. */
  readonly capacityBytes: number | undefined;
  readonly blockBytes: number;
  readonly openBlocks: number;
  readonly spareBlocks: number;
  readonly indexBytes: number;
  readonly openFiles: number;
  readonly memberAckMs: number;
  /** How long a deleted picture may be undeleted. */
  readonly undeleteWindowMs: number;
  /** Every replica is read through once in this; 0: only when somebody asks for it. */
  readonly scrubPassMs: number;
  /** Bytes a second that a pass reads at most. */
  readonly scrubBytesPerSecond: number;
  /** Members without which nothing is acknowledged. */
  readonly minWrite: number;
  /** Where work comes from that can wait; without it only the leader's own commands are carried out. */
  readonly jobs?: { readonly queues: JobQueues; readonly concurrency: number };
  readonly pid: number;
  readonly version: string;
  readonly faults?: Faults;
  /** This server may not run: the process should end with exit code 78. */
  readonly onRefused: (error: TfsError) => void;
  /**
   * Another process has begun to serve the mount: this one must end at once, and write nothing more. It may be started
   * again: then the mount's lock decides.
   */
  readonly onMountTaken: (error: TfsError) => void;
}
