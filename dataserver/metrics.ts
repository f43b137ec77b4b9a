import type { Metrics } from '../common/metrics.ts';
import type { DataServer } from './dataserver.ts';

/** Everything is counted where it happens and only read here, when somebody looks. */
export function observe(metrics: Metrics, server: DataServer): void {
  const { store, puts, pool, probe, index, indexer, nameservers, repair } = server;
  metrics.observed('tfs_blocks', 'Blocks on this disk', () => store.totals().blocks);
  metrics.observed(
    'tfs_open_blocks',
    'Blocks being written with this server as the primary',
    () => pool.openCount,
  );
  metrics.observed('tfs_files', 'Records of pictures on this disk', () => store.totals().files);
  metrics.observed('tfs_aliases', 'Names that share the bytes of another', () => store.totals().aliases);
  metrics.observed(
    'tfs_lost_records',
    'Records that verified on no replica when their block was sealed',
    () => store.totals().lostRecords,
  );
  metrics.observed(
    'tfs_refused_cuts',
    'Seals refused because they would have cut what was acknowledged',
    () => store.refusedCuts,
  );
  metrics.observed('tfs_block_bytes', 'Bytes that block files take', () => store.totals().bytes);
  metrics.observed(
    'tfs_spare_blocks',
    'Zero-filled files ready to become blocks',
    () => store.totals().spares,
  );
  metrics.observed('tfs_index_bytes', 'Memory of loaded block indexes', () => store.totals().indexBytes);
  metrics.observed('tfs_puts_stored', 'Pictures stored since the start', () => puts.stored);
  metrics.observed(
    'tfs_puts_deduplicated',
    'Uploads that became a second name since the start',
    () => puts.deduplicated,
  );
  metrics.observed(
    'tfs_puts_replayed',
    'Uploads that had been stored before since the start',
    () => puts.replayed,
  );
  metrics.observed(
    'tfs_upload_in_flight_bytes',
    'Bytes of uploads not yet acknowledged',
    () => puts.bytesInFlight,
  );
  metrics.observed(
    'tfs_disk_probe_seconds',
    'Duration of the last probe write',
    () => probe.health.probeMs / 1000,
  );
  metrics.observed('tfs_disk_healthy', '1 while probe writes succeed', () => (probe.health.healthy ? 1 : 0));
  metrics.observed('tfs_read_only', '1 after the disk failed a write', () =>
    store.readOnly === undefined ? 0 : 1,
  );
  metrics.observed('tfs_dedup_enabled', '1 while the SHA-1 index works', () => (index.enabled ? 1 : 0));
  metrics.observed(
    'tfs_dedup_filter_bytes',
    'Memory of the filter of known contents',
    () => index.filterBytes,
  );
  metrics.observed(
    'tfs_suspect_replicas',
    'Blocks of which something on this disk does not verify',
    () => store.totals().suspects,
  );
  metrics.observed(
    'tfs_replicas_repaired',
    'Replicas made whole since the start',
    () => repair.stats.repaired,
  );
  metrics.observed(
    'tfs_repair_records_fetched',
    'Records that came from other DataServers for repairs',
    () => repair.stats.fetched,
  );
  metrics.observed(
    'tfs_trash_bytes',
    'Bytes of damaged files that were replaced and are kept for a while',
    () => store.totals().trashBytes,
  );
  metrics.observed(
    'tfs_commits',
    'Batches acknowledged by their whole write set since the start',
    () => pool.stats.batches,
  );
  metrics.observed('tfs_commit_records', 'Records in those batches', () => pool.stats.records);
  metrics.observed(
    'tfs_index_waiting_blocks',
    'Blocks still to be entered into the SHA-1 index',
    () => indexer.waiting,
  );
  metrics.observed('tfs_nameserver_contact', '1 while a leader has answered lately', () =>
    nameservers.inContact ? 1 : 0,
  );
}
