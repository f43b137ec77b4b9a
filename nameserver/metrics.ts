import { JOB_KINDS } from '../common/jobs.ts';
import type { Metrics } from '../common/metrics.ts';
import type { ServerInfo } from '../common/wire/control.ts';
import type { NameServer } from './nameserver.ts';

/** Everything is counted where it happens and only read here, when somebody looks. */
export function observe(metrics: Metrics, server: NameServer): void {
  const { map, members, sealer, opsSync, repairer, configurer, dropper, opener, view, checkpoint } = server;
  const gauge = (name: string, help: string, value: () => number) => metrics.observed(name, help, value);
  const count = (name: string, help: string, value: () => number) => metrics.counted(name, help, value);
  const ofServers = (name: string, help: string, value: (info: ServerInfo) => number) =>
    metrics.observedBy(name, help, 'server', () => members.infos().map((info) => [info.id, value(info)]));
  ofServers('tfs_nameserver_server_up', '1 while the DataServer sends heartbeats', ({ state }) =>
    state === 'up' ? 1 : 0,
  );
  ofServers(
    'tfs_nameserver_server_heartbeat_age_seconds',
    'Since the DataServer was last heard; +Inf when it never was',
    ({ heartbeatAgeMs }) => (heartbeatAgeMs < 0 ? Number.POSITIVE_INFINITY : heartbeatAgeMs / 1000),
  );
  ofServers('tfs_nameserver_server_writable', '1 while its disk takes new blocks', ({ state, io }) =>
    state === 'up' && io.healthy && !io.readOnly && io.full !== true ? 1 : 0,
  );
  ofServers(
    'tfs_nameserver_server_clock_ahead_seconds',
    'By how much the clock of the DataServer is ahead of that of this NameServer',
    ({ clockAheadMs }) => clockAheadMs / 1000,
  );
  gauge(
    'tfs_nameserver_writable_domains',
    'Failure domains with a DataServer that takes new blocks',
    () => server.writableDomains,
  );
  gauge('tfs_nameserver_min_write_domains', 'As many of them are needed for a write', () => server.minWrite);
  metrics.observedBy(
    'tfs_nameserver_blocks_by_copies',
    'Blocks by the number of good copies that can be had now; the last one counts more copies too',
    'copies',
    () => server.blockFigures().byCopies.map((blocks, copies) => [copies, blocks]),
  );
  gauge(
    'tfs_nameserver_absent_replicas',
    'Members of a configuration of a block without a good copy that can be had now',
    () => server.blockFigures().absent,
  );
  gauge(
    'tfs_nameserver_stale_replicas',
    'Replicas, on servers that are up, that lack operations',
    () => server.blockFigures().stale,
  );
  gauge(
    'tfs_nameserver_quarantined_replicas',
    'Replicas whose superblock or operations cannot be read',
    () => server.blockFigures().quarantined,
  );
  gauge(
    'tfs_nameserver_oldest_unsealed_seconds',
    'How long the block that waits longest for its seal has waited',
    () => server.blockFigures().oldestUnsealedMs / 1000,
  );
  gauge(
    'tfs_nameserver_copies_counted_age_seconds',
    'Since the copies began to be counted for the last time; +Inf before the first time',
    () => {
      const { countedAgoMs } = server.blockFigures();
      return countedAgoMs < 0 ? Number.POSITIVE_INFINITY : countedAgoMs / 1000;
    },
  );
  gauge('tfs_nameserver_missing_servers', 'DataServers of which it does not know everything', () => {
    return server.clusterMap().missing.length;
  });
  gauge(
    'tfs_nameserver_servers_in_step',
    'DataServers of which exactly what they hold is known, as digests show',
    () => members.inStep,
  );
  gauge('tfs_nameserver_safe_mode', '1 while it leads and does not know every block', () =>
    server.leads && !view.isComplete() ? 1 : 0,
  );
  gauge('tfs_nameserver_lock_store_up', '1 while Redis answers, or none is needed', () =>
    server.leadership.isLockStoreDown ? 0 : 1,
  );
  gauge('tfs_nameserver_blocks', 'Blocks known', () => map.counts.total);
  gauge('tfs_nameserver_open_blocks', 'Blocks being written', () => map.counts.open);
  gauge('tfs_nameserver_sealed_blocks', 'Blocks sealed on every member', () => map.counts.sealed);
  gauge(
    'tfs_nameserver_unsealed_blocks',
    'Blocks whose session is over and that wait for their seal',
    () => map.counts.awaitingSeal,
  );
  gauge('tfs_nameserver_suspect_blocks', 'Blocks with a damaged replica', () => map.counts.suspect);
  gauge(
    'tfs_nameserver_under_replicated_blocks',
    'Blocks with fewer good replicas than wanted',
    () => server.underReplicated,
  );
  gauge('tfs_nameserver_block_map_bytes', 'Memory of the block map', () => map.bytes);
  gauge('tfs_nameserver_servers_known', 'DataServers that were ever heard of', () => members.known.length);
  gauge(
    'tfs_nameserver_servers_up',
    'DataServers that send heartbeats',
    () => members.known.filter((id) => members.stateOf(id) === 'up').length,
  );
  gauge('tfs_nameserver_complete_view', '1 when every block is known', () => (view.isComplete() ? 1 : 0));
  gauge('tfs_nameserver_leads', '1 while this NameServer commands', () => (server.leads ? 1 : 0));
  gauge('tfs_nameserver_epoch', 'Reign of this NameServer', () => server.reign.epoch);
  count('tfs_nameserver_blocks_opened_total', 'Blocks given out', () => opener.stats.opened);
  count(
    'tfs_nameserver_open_blocks_refused_total',
    'Blocks not given out for lack of servers',
    () => opener.stats.refused,
  );
  gauge(
    'tfs_nameserver_pairs_held',
    'Pairs of DataServers whose sessions kept failing: no block is placed on both for a while',
    () => server.pairs.held,
  );
  count('tfs_nameserver_seals_total', 'Blocks sealed', () => sealer.stats.sealed);
  gauge('tfs_nameserver_seals_waiting', 'Seals on their way', () => sealer.waiting);
  count('tfs_nameserver_seal_retries_total', 'Seals that had to be tried again', () => sealer.stats.retries);
  count('tfs_nameserver_seal_alarms_total', 'Replicas that contradict each other', () => sealer.stats.alarms);
  gauge(
    'tfs_nameserver_seals_contradicted',
    'Blocks with a replica that holds what its seal denies',
    () => sealer.contradicted,
  );
  count(
    'tfs_nameserver_records_sealed_as_lost_total',
    'Records sealed as lost',
    () => sealer.stats.lostRecords,
  );
  count(
    'tfs_nameserver_replicas_lost_total',
    'Replicas that a DataServer had reported and has no more,',
    () => server.registry.stats.lostReplicas,
  );
  count('tfs_nameserver_blocks_forgotten_total', 'Blocks that no member held', () => sealer.stats.forgotten);
  count('tfs_nameserver_ops_syncs_total', 'Replicas told to fetch operations', () => opsSync.stats.syncs);
  gauge('tfs_nameserver_ops_behind_blocks', 'Blocks with a replica that is behind', () => opsSync.waiting);
  count(
    'tfs_nameserver_configurations_total',
    'New configurations of blocks',
    () => configurer.stats.configured,
  );
  count(
    'tfs_nameserver_configuration_failures_total',
    'Configurations that could not be begun',
    () => configurer.stats.failures,
  );
  const { jobs } = server;
  gauge('tfs_nameserver_job_queue_up', '1 while jobs can be queued', () =>
    jobs.dispatcher === undefined || jobs.dispatcher.trouble !== undefined ? 0 : 1,
  );
  gauge('tfs_nameserver_jobs_running', 'Jobs under way on DataServers', () => jobs.desk.grants.size);
  metrics.observedBy('tfs_nameserver_jobs_running_by_kind', 'Jobs under way, by their kind', 'kind', () =>
    JOB_KINDS.map((kind) => [
      kind,
      [...jobs.desk.grants.all()].filter((grant) => grant.kind === kind).length,
    ]),
  );
  metrics.observedBy('tfs_nameserver_jobs_paused', '1 where an operator has stopped that kind', 'kind', () =>
    JOB_KINDS.map((kind) => [kind, jobs.pauses.isPaused(kind) ? 1 : 0]),
  );
  gauge(
    'tfs_nameserver_jobs_parked',
    'Jobs that failed several times on a DataServer and are left alone there for a while',
    () => jobs.desk.failures.parked.length,
  );
  count('tfs_nameserver_jobs_queued_total', 'Jobs queued', () => jobs.dispatcher?.stats.queued ?? 0);
  count('tfs_nameserver_jobs_done_total', 'Jobs done', () => jobs.desk.stats.done);
  count('tfs_nameserver_job_failures_total', 'Attempts at jobs that failed', () => jobs.desk.stats.failed);
  count('tfs_nameserver_job_bytes_total', 'Bytes moved by jobs', () => jobs.desk.stats.bytes);
  count(
    'tfs_nameserver_direct_jobs_total',
    'Copies that were made without a queue',
    () => jobs.direct.stats.started,
  );
  metrics.observedBy(
    'tfs_nameserver_planned_blocks',
    'Blocks that need work, by its kind, as the last round over the map found',
    'kind',
    () => [...(jobs.planner.round?.amounts ?? [])].map(([kind, { blocks }]) => [kind, blocks]),
  );
  count('tfs_nameserver_repairs_total', 'Replicas made whole', () => repairer.stats.repaired);
  gauge('tfs_nameserver_repairs_waiting', 'Replicas that are to be made whole', () => repairer.waiting);
  count(
    'tfs_nameserver_repair_failures_total',
    'Repairs that had to be tried again',
    () => repairer.stats.failures,
  );
  count(
    'tfs_nameserver_repair_records_fetched_total',
    'Records that repairs took from other replicas',
    () => repairer.stats.fetched,
  );
  gauge(
    'tfs_nameserver_unrepaired_records',
    'Records that a repair found on no replica',
    () => repairer.lostRecords,
  );
  count(
    'tfs_nameserver_repair_alarms_total',
    'Replicas that cannot be made whole',
    () => repairer.stats.alarms,
  );
  count(
    'tfs_nameserver_compactions_total',
    'Blocks that were compacted on their members',
    () => server.compaction.stats.compacted,
  );
  count(
    'tfs_nameserver_compaction_freed_bytes_total',
    'Bytes that compactions gave back, on each replica',
    () => server.compaction.stats.freedBytes,
  );
  gauge(
    'tfs_nameserver_compactions_waiting',
    'Blocks that are compacted, or are to be',
    () => server.compaction.waiting,
  );
  count(
    'tfs_nameserver_compaction_failures_total',
    'Compactions that had to be tried again',
    () => server.compaction.stats.failures,
  );
  count(
    'tfs_nameserver_compaction_alarms_total',
    'Compactions that found replicas to differ, or a live record nowhere',
    () => server.compaction.stats.alarms,
  );
  gauge(
    'tfs_nameserver_outdated_blocks',
    'Compacted blocks with a replica that was not compacted with them',
    () => map.outdated.size,
  );
  count(
    'tfs_nameserver_digest_checks_total',
    'Blocks whose replicas were compared after one of them was scrubbed',
    () => server.digests.stats.checked,
  );
  count(
    'tfs_nameserver_digest_disagreements_total',
    'Times that sound replicas of a block turned out not to be the same',
    () => server.digests.stats.disagreements,
  );
  gauge(
    'tfs_nameserver_disagreeing_blocks',
    'Blocks whose replicas are sound, each by itself, and not the same',
    () => server.digests.disagreeing,
  );
  count(
    'tfs_nameserver_replicas_dropped_total',
    'Replicas let go of because their blocks do not need them',
    () => dropper.stats.dropped,
  );
  count(
    'tfs_nameserver_blocks_retired_total',
    'Blocks without a record that are gone, with all replicas',
    () => dropper.stats.retired,
  );
  count(
    'tfs_nameserver_drop_failures_total',
    'Replicas that could not be let go of at once',
    () => dropper.stats.failures,
  );
  gauge(
    'tfs_nameserver_drops_waiting',
    'Blocks with a replica that could not be let go of yet',
    () => dropper.waiting,
  );
  gauge('tfs_nameserver_checkpoint_failing', '1 while the map cannot be stored', () =>
    checkpoint.failing ? 1 : 0,
  );
}
