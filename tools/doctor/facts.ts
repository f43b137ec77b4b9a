import type { ServerFigures } from '../../common/wire/control.ts';
import type { NameServerAnswer } from '../cluster/cluster-view.ts';
import type { ProcessRow } from '../cluster/processes.ts';

export interface SeenProcess extends ProcessRow {
  /** The last error in its log, where it does not serve as it should; null when there is none. */
  readonly lastError: string | null;
}

export interface RedisFacts {
  readonly address: string;
  readonly state: 'up' | 'unreachable' | 'evicts';
  /** For a person, where it is not `up`. */
  readonly why: string | undefined;
}

/** The directory of a DataServer on this machine. */
export interface MountFacts {
  readonly server: number;
  readonly path: string;
  /**
   * `new`: in the configuration, never formatted. `missing`: was formatted for this cluster, and is empty or gone.
   * `foreign`: of another cluster or server. `unreadable`: it fails, or does not answer.
   */
  readonly state: 'ours' | 'new' | 'missing' | 'foreign' | 'unreadable';
  readonly why: string | undefined;
  /** Number of the file system it is on. */
  readonly device: number | undefined;
}

/** Everything that is looked at before anything is said about a cluster. */
export interface Facts {
  readonly replicas: number;
  readonly minWrite: number;
  readonly blockBytes: number;
  /** Whether the process manager runs on this machine. */
  readonly isManaged: boolean;
  readonly processes: readonly SeenProcess[];
  readonly nameservers: readonly NameServerAnswer[];
  readonly redis: RedisFacts;
  readonly mounts: readonly MountFacts[];
  /** Of every DataServer that the NameServer knows of. */
  readonly figures: ServerFigures;
  /** In how long each replica is to be read through once; 0: never. */
  readonly scrubPassMs: number;
  /** Wall clock. */
  readonly nowMs: number;
}
