import { formatBytes } from '../cli/columns.ts';
import { mapOf } from '../cluster/cluster-view.ts';
import { etaText, formatRate } from '../jobs/texts.ts';
import type { Facts } from './facts.ts';
import { type Finding, plural } from './finding.ts';

/** How the work on blocks goes on, as the leader says. */
export function jobFindings({ nameservers, redis }: Facts): Finding[] {
  const jobs = mapOf(nameservers)?.jobs;
  if (jobs === undefined) return [];
  const { trouble, parked, paused, wantedBlocks, wantedBytes, bytesPerSecond } = jobs;
  const findings: Finding[] = [];
  // Where Redis is seen to be down from here too, that says it all.
  if (trouble !== undefined && redis.state === 'up')
    findings.push({
      code: 'no-job-queue',
      level: 'degraded',
      count: 1,
      what: 'the NameServer that leads cannot queue any work on blocks, though Redis answers here',
      why: trouble,
      itself:
        'it tries again every few seconds; meanwhile only blocks with one copy left are copied, and garbage is taken out',
      todo: 'check the way from its machine to Redis, and REDIS_URL or redis.url there',
    });
  if (parked > 0)
    findings.push({
      code: 'jobs-fail',
      level: 'degraded',
      count: parked,
      what: `${plural(parked, 'job fails', 'jobs fail')} again and again`,
      why: 'npx tfs jobs shows the last error of each',
      itself: 'another DataServer is tried where there is one; the same one again after 10 min',
      todo: 'mend what the errors say',
    });
  if (paused.length > 0)
    findings.push({
      code: 'jobs-paused',
      level: wantedBlocks > 0 ? 'degraded' : 'note',
      count: paused.length,
      what: `jobs are paused: ${paused.join(', ')}`,
      why: 'an operator has paused them',
      itself: 'nothing, until they are resumed',
      todo: `npx tfs jobs resume ${paused[0]}`,
    });
  else if (wantedBlocks > 0)
    findings.push({
      code: 'work-on-blocks',
      level: 'note',
      count: wantedBlocks,
      what: `${plural(wantedBlocks, 'block is', 'blocks are')} worked on or waiting for it, ${formatBytes(wantedBytes)}`,
      why: 'npx tfs plan --dry-run says why, block by block',
      itself: `it goes on at ${formatRate(bytesPerSecond)}${etaText(jobs)}`,
      todo: null,
    });
  return findings;
}
