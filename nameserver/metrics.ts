import type { Metrics } from '../common/metrics.ts';
import type { NameServer } from './nameserver.ts';

/** Everything is counted where it happens and only read here, when somebody looks. */
export function observe(metrics: Metrics, server: NameServer): void {
  const { map, members, sealer, opsSync, repairer, configurer, opener, view, checkpoint } = server;
  const gauge = (name: string, help: string, value: () => number) => metrics.observed(name, help, value);
  gauge('tfs_blocks', 'Blocks known', () => map.counts.total);
  gauge('tfs_open_blocks', 'Blocks being written', () => map.counts.open);
  gauge('tfs_sealed_blocks', 'Blocks sealed on every member', () => map.counts.sealed);
  gauge(
    'tfs_unsealed_blocks',
    'Blocks whose session is over and that wait for their seal',
    () => map.counts.awaitingSeal,
  );
  gauge('tfs_suspect_blocks', 'Blocks with a damaged replica', () => map.counts.suspect);
  gauge(
    'tfs_under_replicated_blocks',
    'Blocks with fewer good replicas than wanted',
    () => server.underReplicated,
  );
  gauge('tfs_block_map_bytes', 'Memory of the block map', () => map.bytes);
  gauge('tfs_servers_known', 'DataServers that were ever heard of', () => members.known.length);
  gauge(
    'tfs_servers_up',
    'DataServers that send heartbeats',
    () => members.known.filter((id) => members.stateOf(id) === 'up').length,
  );
  gauge('tfs_complete_view', '1 when every block is known', () => (view.isComplete() ? 1 : 0));
  gauge('tfs_leads', '1 while this NameServer commands', () => (server.leads ? 1 : 0));
  gauge('tfs_epoch', 'Reign of this NameServer', () => server.reign.epoch);
  gauge('tfs_blocks_opened', 'Blocks given out since the start', () => opener.stats.opened);
  gauge('tfs_open_blocks_refused', 'Blocks not given out for lack of servers', () => opener.stats.refused);
  gauge(
    'tfs_pairs_held',
    'Pairs of DataServers whose sessions kept failing: no block is placed on both for a while',
    () => server.pairs.held,
  );
  gauge('tfs_seals', 'Blocks sealed since the start', () => sealer.stats.sealed);
  gauge('tfs_seals_waiting', 'Seals on their way', () => sealer.waiting);
  gauge('tfs_seal_retries', 'Seals that had to be tried again', () => sealer.stats.retries);
  gauge('tfs_seal_alarms', 'Replicas that contradict each other', () => sealer.stats.alarms);
  gauge(
    'tfs_seals_contradicted',
    'Blocks with a replica that holds what its seal denies',
    () => sealer.contradicted,
  );
  gauge(
    'tfs_records_sealed_as_lost',
    'Records sealed as lost since the start',
    () => sealer.stats.lostRecords,
  );
  gauge(
    'tfs_replicas_lost',
    'Replicas that a DataServer had reported and has no more, since the start',
    () => server.registry.stats.lostReplicas,
  );
  gauge('tfs_blocks_forgotten', 'Blocks that no member held', () => sealer.stats.forgotten);
  gauge('tfs_ops_syncs', 'Replicas told to fetch operations', () => opsSync.stats.syncs);
  gauge('tfs_ops_behind_blocks', 'Blocks with a replica that is behind', () => opsSync.waiting);
  gauge(
    'tfs_configurations',
    'New configurations of blocks since the start',
    () => configurer.stats.configured,
  );
  gauge(
    'tfs_configuration_failures',
    'Configurations that could not be begun since the start',
    () => configurer.stats.failures,
  );
  gauge('tfs_repairs', 'Replicas made whole since the start', () => repairer.stats.repaired);
  gauge('tfs_repairs_waiting', 'Replicas that are to be made whole', () => repairer.waiting);
  gauge('tfs_repair_failures', 'Repairs that had to be tried again', () => repairer.stats.failures);
  gauge(
    'tfs_repair_records_fetched',
    'Records that repairs took from other replicas since the start',
    () => repairer.stats.fetched,
  );
  gauge('tfs_unrepaired_records', 'Records that a repair found on no replica', () => repairer.lostRecords);
  gauge('tfs_repair_alarms', 'Replicas that cannot be made whole', () => repairer.stats.alarms);
  gauge('tfs_checkpoint_failing', '1 while the map cannot be stored', () => (checkpoint.failing ? 1 : 0));
}
