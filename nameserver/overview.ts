import { formatHostPort, type HostPort } from '../common/ids.ts';
import type { ClusterMap, Reign, Status } from '../common/wire/control.ts';
import type { BlockMap } from './block-map.ts';
import type { Leadership } from './leadership.ts';
import type { MapVersion } from './map-version.ts';
import type { Members } from './members.ts';
import type { Series } from './series.ts';
import type { View } from './view.ts';

export interface OverviewDeps {
  readonly id: number;
  readonly clusterUuid: string;
  readonly clusterDigit: number;
  readonly replicas: number;
  readonly minWrite: number;
  readonly pid: number;
  readonly version: string;
  readonly address: () => HostPort;
  /** Wall clock. */
  readonly startedAtMs: number;
  readonly map: BlockMap;
  readonly members: Members;
  readonly leadership: Leadership;
  readonly view: View;
  readonly series: Series;
  readonly mapVersion: MapVersion;
  readonly jobs: () => NonNullable<ClusterMap['jobs']>;
  readonly blocks: () => ClusterMap['blocks'];
}

/** What a NameServer tells of the cluster and of itself, to clients and to people. */
export class Overview {
  readonly #deps: OverviewDeps;

  constructor(deps: OverviewDeps) {
    this.#deps = deps;
  }

  clusterMap(): ClusterMap {
    const { clusterUuid, clusterDigit, replicas, minWrite, leadership, view, mapVersion } = this.#deps;
    const completeView = view.isComplete();
    const leader = leadership.reign !== undefined;
    return {
      clusterUuid,
      clusterDigit,
      reign: this.#reign,
      leader,
      completeView,
      missing: this.#deps.members.missing(leadership.reign),
      inStep: this.#deps.members.inStep,
      safeMode: !(leader && completeView),
      mapVersion: mapVersion.value,
      replicas,
      minWrite,
      servers: this.#deps.members.infos(),
      ...(leader ? { jobs: this.#deps.jobs() } : {}),
      blocks: this.#deps.blocks(),
    };
  }

  status(): Status {
    const { id, pid, version, leadership, view, members, map, series, startedAtMs } = this.#deps;
    const isComplete = view.isComplete();
    const leads = leadership.reign !== undefined;
    return {
      kind: 'nameserver',
      id: String(id),
      pid,
      address: formatHostPort(this.#deps.address()),
      role: leads ? 'primary' : 'standby',
      state: isComplete ? 'ok' : leads ? 'safe mode' : 'catching up',
      startedAtMs,
      version,
      details: {
        epoch: this.#reign.epoch,
        completeView: isComplete,
        missing: members.missing(leadership.reign).join(' '),
        inStep: members.inStep,
        serversUp: members.known.filter((server) => members.stateOf(server) === 'up').length,
        serversKnown: members.known.length,
        blocks: map.counts.total,
        open: map.counts.open,
        awaitingSeal: map.counts.awaitingSeal,
        underReplicated: this.#deps.blocks().underReplicated,
        series: series.series,
      },
    };
  }

  get #reign(): Reign {
    return this.#deps.leadership.reign ?? this.#deps.leadership.highest;
  }
}
