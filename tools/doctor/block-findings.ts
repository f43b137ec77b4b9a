import { SEAL_PATIENCE_MS } from '../../common/limits.ts';
import type { ClusterMap } from '../../common/wire/control.ts';
import { mapOf } from '../cluster/cluster-view.ts';
import type { Facts } from './facts.ts';
import { type Finding, plural } from './finding.ts';

/** A seal that has not come by then has no whole copy, or waits for something that does not come. */
const SEAL_LATE_MS = SEAL_PATIENCE_MS + 10_000;

/** How the blocks are, as the leader has counted them. */
export function blockFindings(facts: Facts): Finding[] {
  const map = mapOf(facts.nameservers);
  if (map === undefined) return [];
  const { blocks, servers } = map;
  const away = servers.filter(({ state }) => state !== 'up').map(({ id }) => id);
  // Each copy of a block has the same records lost: no disk knows of more than there are.
  const lost = Math.max(blocks.lostRecords, ...servers.map(({ lostRecords }) => lostRecords));
  return [
    ...copies(blocks, away, facts.replicas),
    ...seals(blocks),
    ...damage(blocks),
    ...(blocks.disagreeing > 0 ? [disagreement(blocks.disagreeing)] : []),
    ...(lost > 0 ? [lostRecords(lost)] : []),
  ];
}

type Blocks = ClusterMap['blocks'];

function copies(blocks: Blocks, away: readonly number[], replicas: number): Finding[] {
  const { byCopies, underReplicated, stale } = blocks;
  const [none = 0, one = 0] = byCopies;
  const findings: Finding[] = [];
  const whereElse =
    away.length > 0
      ? `other copies are on DataServer ${away.join(', ')}, which is not there`
      : 'their other copies are damaged, or were never made';
  const bringBack =
    away.length > 0
      ? `bring back DataServer ${away.join(', ')}; do not empty or remove a disk before that`
      : 'npx tfs verify --all-replicas names what is damaged; keep every disk as it is until then';
  if (none > 0)
    findings.push({
      code: 'no-copy',
      level: 'at risk',
      count: none,
      what: `${plural(none, 'block has', 'blocks have')} no good copy that can be had now`,
      why: whereElse,
      itself:
        'what is whole in a damaged copy is read from it; everything else is 503, or comes from copies that are not confirmed, until a good copy is back',
      todo: bringBack,
    });
  if (one > 0 && replicas > 1)
    findings.push({
      code: 'one-copy',
      level: 'at risk',
      count: one,
      what: `${plural(one, 'block has', 'blocks have')} one good copy only that can be had now`,
      why: whereElse,
      itself:
        'they are read from it; copies on servers that come back count again at once. The others are made again elsewhere, ' +
        'these first, 10 min after their server was last heard, where another failure domain has room',
      todo: bringBack,
    });
  const fewer = underReplicated - none - (replicas > 1 ? one : 0);
  if (fewer > 0)
    findings.push({
      code: 'fewer-copies-than-wanted',
      level: 'degraded',
      count: fewer,
      what: `${plural(fewer, 'block has', 'blocks have')} fewer good copies than wanted, and at least two`,
      why:
        away.length > 0
          ? `${whereElse}, or they were begun while a server was not there`
          : 'they were begun while a server was not there, or copies are damaged or not up to date',
      itself:
        'a block that is still open is closed within 30 s; copies on servers that come back count again at once. The others ' +
        'are made again elsewhere, 10 min after their server was last heard, where another failure domain has room',
      todo: away.length > 0 ? `bring back DataServer ${away.join(', ')}` : null,
    });
  if (stale > 0)
    findings.push({
      code: 'stale-replicas',
      level: 'degraded',
      count: stale,
      what: `${plural(stale, 'copy lacks', 'copies lack')} operations that were made while their server was away`,
      why: 'their blocks went on without them',
      itself:
        'each is sealed if it has to be, brought up to date and taken in again, within a minute of the return of its server',
      todo: null,
    });
  return findings;
}

function seals({ awaitingSeal, oldestUnsealedMs, contradicted }: Blocks): Finding[] {
  const findings: Finding[] = [];
  if (awaitingSeal > 0 && oldestUnsealedMs > SEAL_LATE_MS)
    findings.push({
      code: 'seals-wait',
      level: 'degraded',
      count: awaitingSeal,
      what: `${plural(awaitingSeal, 'block waits', 'blocks wait')} for the seal of a copy, the longest for ${Math.round(oldestUnsealedMs / 1000)} s`,
      why: 'a member that was writing is away, or no copy is known to be whole',
      itself:
        'sealed 30 s after the end of the writing where a whole copy is there, after 10 min where none is; the copy of a member that is away when it is back. They are read meanwhile',
      todo: 'bring back the servers that are down',
    });
  if (contradicted > 0)
    findings.push({
      code: 'seal-contradicted',
      level: 'at risk',
      count: contradicted,
      what: `${plural(contradicted, 'block has', 'blocks have')} a copy that holds what the seal of the others denies`,
      why: 'a disk was set back or restored, or lied about what it had written',
      itself: 'nothing is changed on either side',
      todo: 'npm run logs -- nameserver names the blocks ("contradicts"); keep all disks; npx tfs fsck MOUNT and npx tfs salvage on the copy that holds more',
    });
  return findings;
}

function lostRecords(count: number): Finding {
  return {
    code: 'lost-records',
    level: 'at risk',
    count,
    what: `at least ${plural(count, 'record verifies', 'records verify')} on no copy: lost, unless a disk that is away has them`,
    why: 'every copy of them is damaged',
    itself:
      'their names are answered with 500, never with 404 or wrong bytes; a server that comes back with a whole copy mends them',
    todo: 'npx tfs verify --all-replicas names the blocks; keep every disk and every file in trash/; upload the pictures again if you have them elsewhere',
  };
}

function disagreement(count: number): Finding {
  return {
    code: 'copies-disagree',
    level: 'degraded',
    count,
    what: `${plural(count, 'block has', 'blocks have')} copies that verify, each by itself, and are not the same`,
    why: 'operations were given out twice, or a block was sealed by two leaders',
    itself:
      'operations are put together, a deletion on either side counts; of two seals the one that stands is taken over by all; looked at again in 30 s, then less and less often',
    todo: 'if it stays for an hour: npm run logs -- nameserver names the blocks ("not the same"); keep all disks, and report it',
  };
}

function damage({ suspect, quarantined }: Blocks): Finding[] {
  const findings: Finding[] = [];
  if (quarantined > 0)
    findings.push({
      code: 'quarantined',
      level: 'at risk',
      count: quarantined,
      what: `${plural(quarantined, 'copy is', 'copies are')} quarantined: the head or the operations of the block cannot be read`,
      why: 'the disk damaged it',
      itself:
        'a sealed one is made again on the same disk from the other copies; until then it is neither read nor written',
      todo: 'npx tfs verify --all-replicas; look at the disk (dmesg, smartctl -a)',
    });
  if (suspect > 0 && suspect > quarantined)
    findings.push({
      code: 'suspect',
      level: 'degraded',
      count: suspect - quarantined,
      what: `${plural(suspect - quarantined, 'block has', 'blocks have')} a damaged copy`,
      why: 'bytes on a disk do not verify',
      itself:
        'other copies answer; the block is closed if it is open, and its damaged records are fetched from the others',
      todo: 'if it stays for minutes: npx tfs verify --all-replicas; look at the disk (dmesg, smartctl -a)',
    });
  return findings;
}
