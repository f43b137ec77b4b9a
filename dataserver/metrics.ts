import type { Metrics } from '../common/metrics.ts';
import type { DataServer } from './dataserver.ts';

/** Everything is counted where it happens and only read here, when somebody looks. */
export function observe(metrics: Metrics, server: DataServer): void {
  const { store, puts, pool, probe, index, indexer, nameservers, repair, scrubber, jobs } = server;
  metrics.observed('tfs_dataserver_blocks', 'Blocks on this disk', () => store.totals().blocks);
  metrics.observed(
    'tfs_dataserver_open_blocks',
    'Blocks being written with this server as the primary',
    () => pool.openCount,
  );
  metrics.observed(
    'tfs_dataserver_unsealed_blocks',
    'Blocks on this disk that are written or wait for their seal, also as another member',
    () => store.totals().unsealedBlocks,
  );
  metrics.observed(
    'tfs_dataserver_disk_total_bytes',
    'Size of the file system',
    () => server.space.totalBytes,
  );
  metrics.observed('tfs_dataserver_disk_free_bytes', 'Free on the file system', () => server.space.freeBytes);
  metrics.observed('tfs_dataserver_disk_slow', '1 while writes take long, time and again', () =>
    server.io.slow === true ? 1 : 0,
  );
  metrics.observed('tfs_dataserver_disk_full', '1 while there is no room for another block', () =>
    server.io.full === true ? 1 : 0,
  );
  metrics.observed(
    'tfs_dataserver_suspected_peers',
    'DataServers that it could not reach, or found slow, in the last minute',
    () => server.suspectedPeers,
  );
  metrics.observed('tfs_dataserver_stopping', '1 while it stops', () => (server.isStopping ? 1 : 0));
  metrics.observed('tfs_dataserver_files', 'Records of pictures on this disk', () => store.totals().files);
  metrics.observed(
    'tfs_dataserver_aliases',
    'Names that share the bytes of another',
    () => store.totals().aliases,
  );
  metrics.observed(
    'tfs_dataserver_lost_records',
    'Records that verified on no replica when their block was sealed',
    () => store.totals().lostRecords,
  );
  metrics.counted(
    'tfs_dataserver_refused_cuts_total',
    'Seals refused because they would have cut what was acknowledged',
    () => store.refusedCuts,
  );
  metrics.counted(
    'tfs_dataserver_replicas_dropped_total',
    'Replicas that it let go of because their blocks do not need them',
    () => store.droppedCount,
  );
  metrics.observed('tfs_dataserver_block_bytes', 'Bytes that block files take', () => store.totals().bytes);
  metrics.observed(
    'tfs_dataserver_spare_blocks',
    'Zero-filled files ready to become blocks',
    () => store.totals().spares,
  );
  metrics.observed(
    'tfs_dataserver_index_bytes',
    'Memory of loaded block indexes',
    () => store.totals().indexBytes,
  );
  metrics.counted('tfs_dataserver_reads_total', 'Pictures read', () => server.reads.stats.reads);
  metrics.counted('tfs_dataserver_puts_stored_total', 'Pictures stored', () => puts.stored);
  metrics.counted(
    'tfs_dataserver_puts_deduplicated_total',
    'Uploads that became a second name',
    () => puts.deduplicated,
  );
  metrics.counted(
    'tfs_dataserver_puts_replayed_total',
    'Uploads that had been stored before',
    () => puts.replayed,
  );
  metrics.observed(
    'tfs_dataserver_upload_in_flight_bytes',
    'Bytes of uploads not yet acknowledged',
    () => puts.bytesInFlight,
  );
  metrics.observed(
    'tfs_dataserver_disk_probe_seconds',
    'Duration of the last probe write',
    () => probe.health.probeMs / 1000,
  );
  metrics.observed('tfs_dataserver_disk_healthy', '1 while probe writes succeed', () =>
    probe.health.healthy ? 1 : 0,
  );
  metrics.observed('tfs_dataserver_read_only', '1 after the disk failed a write', () =>
    store.readOnly === undefined ? 0 : 1,
  );
  metrics.observed('tfs_dataserver_dedup_enabled', '1 while the SHA-1 index works', () =>
    index.enabled ? 1 : 0,
  );
  metrics.observed(
    'tfs_dataserver_recent_changes',
    'Names whose state changed here within a day, kept for gateways that ask',
    () => server.changes.kept,
  );
  metrics.observed(
    'tfs_dataserver_dedup_filter_bytes',
    'Memory of the filter of known contents',
    () => index.filterBytes,
  );
  metrics.observed(
    'tfs_dataserver_suspect_replicas',
    'Blocks of which something on this disk does not verify',
    () => store.totals().suspects,
  );
  metrics.counted(
    'tfs_dataserver_replicas_repaired_total',
    'Replicas made whole',
    () => repair.stats.repaired,
  );
  metrics.counted(
    'tfs_dataserver_repair_records_fetched_total',
    'Records that came from other DataServers for repairs',
    () => repair.stats.fetched,
  );
  metrics.observedBy(
    'tfs_dataserver_space_bytes',
    'What the bytes below the mount are, by part; they add up to what its files take of the file system',
    'part',
    () => Object.entries(server.spaceSurvey.latest?.parts ?? {}),
  );
  metrics.observed(
    'tfs_dataserver_space_age_seconds',
    'Since that was looked at; +Inf before the first time',
    () => {
      const { latest } = server.spaceSurvey;
      if (latest === undefined) return Number.POSITIVE_INFINITY;
      return Math.max(0, (server.options.clock.now() - latest.measuredAtMs) / 1000);
    },
  );
  metrics.observed('tfs_dataserver_orphan_files', 'Files that no block and no server needs', () => {
    return server.spaceSurvey.latest?.orphans.files ?? 0;
  });
  metrics.observed('tfs_dataserver_orphan_bytes', 'Bytes of those', () => {
    return server.spaceSurvey.latest?.orphans.bytes ?? 0;
  });
  metrics.observed('tfs_dataserver_orphan_oldest_seconds', 'Age of the oldest of those', () => {
    return (server.spaceSurvey.latest?.orphans.oldestMs ?? 0) / 1000;
  });
  metrics.counted('tfs_dataserver_scrub_bytes_total', 'Bytes read by scrubs', () => scrubber.stats.bytes);
  metrics.counted(
    'tfs_dataserver_scrub_replicas_total',
    'Replicas read through by scrubs',
    () => scrubber.stats.replicas,
  );
  metrics.counted(
    'tfs_dataserver_scrub_damaged_total',
    'Replicas that scrubs found damaged',
    () => scrubber.stats.damaged,
  );
  metrics.observed(
    'tfs_dataserver_scrub_left_bytes',
    'Still to be read in the pass that is under way',
    () => {
      return scrubber.figures.leftBytes;
    },
  );
  metrics.observed(
    'tfs_dataserver_scrub_completed_age_seconds',
    'Since the last complete pass was begun; +Inf before the first',
    () => {
      const { last } = scrubber.figures;
      const now = server.options.clock.now();
      return last === undefined ? Number.POSITIVE_INFINITY : Math.max(0, (now - last.startedAtMs) / 1000);
    },
  );
  metrics.observed(
    'tfs_dataserver_scrub_rests',
    '1 while a scrub rests because reads would wait for it',
    () => (scrubber.figures.restsForReads ? 1 : 0),
  );
  metrics.observed(
    'tfs_dataserver_scrub_overdue_replicas',
    'Replicas that were not read through for far too long, as far as the leader is told of them',
    () => scrubber.overdue.length,
  );
  metrics.observed('tfs_dataserver_jobs_running', 'Jobs that it is at work on', () => jobs?.running ?? 0);
  metrics.counted('tfs_dataserver_jobs_done_total', 'Jobs done', () => jobs?.stats.done ?? 0);
  metrics.counted(
    'tfs_dataserver_jobs_unwanted_total',
    'Jobs that the leader did not want any more',
    () => jobs?.stats.unwanted ?? 0,
  );
  metrics.counted('tfs_dataserver_jobs_failed_total', 'Attempts that failed', () => jobs?.stats.failed ?? 0);
  metrics.counted('tfs_dataserver_job_bytes_total', 'Bytes moved by jobs', () => jobs?.stats.bytes ?? 0);
  metrics.observed(
    'tfs_dataserver_trash_bytes',
    'Bytes of damaged files that were replaced and are kept for a while',
    () => store.totals().trashBytes,
  );
  metrics.counted(
    'tfs_dataserver_commits_total',
    'Batches acknowledged by their whole write set',
    () => pool.stats.batches,
  );
  metrics.counted(
    'tfs_dataserver_commit_records_total',
    'Records in those batches',
    () => pool.stats.records,
  );
  metrics.observed(
    'tfs_dataserver_index_waiting_blocks',
    'Blocks still to be entered into the SHA-1 index',
    () => indexer.waiting,
  );
  metrics.observed('tfs_dataserver_nameserver_contact', '1 while a leader has answered lately', () =>
    nameservers.inContact ? 1 : 0,
  );
}
