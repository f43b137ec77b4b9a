import type { GatewayMetrics } from '../gateway-metrics.ts';
import type { Decoders } from './decoders.ts';
import type { DiskCache } from './disk-cache.ts';
import type { MemoryCache } from './memory-cache.ts';
import type { Renditions } from './renditions.ts';

interface Published {
  readonly renditions: Renditions;
  readonly decoders: Decoders;
  readonly memory: MemoryCache;
  readonly disk: DiskCache | undefined;
}

/** Where renditions come from, and what their decoders do. */
export function publishImages(
  metrics: GatewayMetrics,
  { renditions, decoders, memory, disk }: Published,
): void {
  const { stats } = renditions;
  metrics.counted('tfs_gateway_renditions_memory_total', 'Renditions found in memory', () => stats.memory);
  metrics.counted('tfs_gateway_renditions_disk_total', 'Renditions found on disk', () => stats.disk);
  metrics.counted(
    'tfs_gateway_renditions_elsewhere_total',
    'Renditions that another worker has made',
    () => stats.elsewhere,
  );
  metrics.counted('tfs_gateway_renditions_made_total', 'Renditions made', () => stats.made);
  metrics.counted(
    'tfs_gateway_renditions_failed_total',
    'Renditions that could not be made',
    () => stats.failed,
  );
  metrics.counted(
    'tfs_gateway_renditions_refused_total',
    'Renditions refused because too many wait',
    () => stats.refused + decoders.stats.refused,
  );
  metrics.counted(
    'tfs_gateway_decoders_crashed_total',
    'Decoders that ended on a picture',
    () => decoders.stats.crashed,
  );
  metrics.counted(
    'tfs_gateway_decoders_overdue_total',
    'Decoders ended because a picture took too long',
    () => decoders.stats.overdue,
  );
  metrics.counted(
    'tfs_gateway_decoders_busy_seconds_total',
    'Time in which renditions were made',
    () => decoders.stats.busyMs / 1000,
  );
  metrics.observed('tfs_gateway_decoders_running', 'Renditions being made', () => decoders.running);
  metrics.observed(
    'tfs_gateway_decoders_waiting',
    'Renditions that wait for a decoder',
    () => decoders.waiting,
  );
  metrics.observed('tfs_gateway_renditions_memory_bytes', 'Renditions in memory', () => memory.bytes);
  metrics.observed(
    'tfs_gateway_renditions_disk_bytes',
    'Renditions on disk, of all workers, as of the last look and what this one has written since',
    () => disk?.bytes ?? 0,
  );
}
