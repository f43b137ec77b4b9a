import * as assert from 'uvu/assert';
import { serverId } from '../../../common/ids.ts';
import type { ClusterMap, ServerFigures, ServerInfo } from '../../../common/wire/control.ts';
import { noParts, type SpaceUse } from '../../../common/wire/space.ts';
import { diagnose, type Verdict } from '../../../tools/doctor/diagnose.ts';
import type { Facts } from '../../../tools/doctor/facts.ts';
import type { Finding } from '../../../tools/doctor/finding.ts';
import { describe } from '../../kit/suite.ts';
import {
  DAY_MS,
  healthy,
  map,
  mount,
  NOW_MS,
  nameservers,
  row,
  scrubOf,
  server,
  silentNameServer,
  withProcess,
} from './seen.ts';

interface Symptom {
  readonly name: string;
  readonly facts: Facts;
  readonly verdict: Verdict;
  /** All of them, in order. */
  readonly codes: readonly string[];
  /** Of the first finding. */
  readonly says?: readonly (string | RegExp)[];
}

type Blocks = Partial<ClusterMap['blocks']>;
const withServers = (...servers: ServerInfo[]): Facts =>
  healthy({ nameservers: nameservers(map({ servers })) });
const withBlocks = (blocks: Blocks): Facts => healthy({ nameservers: nameservers(map({ blocks })) });
const IDLE = {
  wantedBlocks: 0,
  wantedBytes: 0,
  running: 0,
  parked: 0,
  bytesPerSecond: 0,
  etaOfCopies: false,
  paused: [],
};
const withJobs = (jobs: Partial<NonNullable<ClusterMap['jobs']>>): Facts =>
  healthy({ nameservers: nameservers(map({ jobs: { ...IDLE, ...jobs } })) });
const unwell = (overrides: Partial<ServerInfo>): Facts =>
  withServers(server(1), server(2), server(3, overrides));
const unwell4 = (overrides: Partial<ServerInfo>): Facts =>
  withServers(server(1), server(2), server(3), server(4, overrides));
/** Of three DataServers, of which the third is looked at. */
const figuresOf = (third: Partial<ServerFigures[number]>): ServerFigures => [
  ...healthy().figures.slice(0, 2),
  { id: serverId(3), ...third },
];
const useWith = (orphans: SpaceUse['orphans']): SpaceUse => ({
  measuredAtMs: NOW_MS,
  totalBytes: 1e12,
  freeBytes: 5e11,
  parts: noParts(),
  orphans,
});
const dead = { pid: null, healthy: false, details: null, ageMs: null };
const GONE: Partial<ServerInfo> = { state: 'down', heartbeatAgeMs: 20_000 };
const oneAway = (blocks: Blocks, process: Parameters<typeof row>[2] = {}): Facts =>
  healthy({
    nameservers: nameservers(map({ servers: [server(1), server(2), server(3, GONE)], blocks })),
    processes: withProcess('dataserver', 3, { ...dead, state: 'restarting', restarts: 1, ...process }),
  });

const SYMPTOMS: readonly Symptom[] = [
  {
    name: 'a DataServer is being emptied',
    facts: unwell4({ drained: true, blocks: 12 }),
    verdict: 'healthy',
    codes: ['server-draining'],
    says: ['12 blocks are still on it'],
  },
  {
    name: 'a DataServer was emptied',
    facts: unwell4({ drained: true, blocks: 0, openBlocks: 0 }),
    verdict: 'healthy',
    codes: ['server-drained'],
    says: ['can be taken out', 'npx tfs remove-server 4'],
  },
  {
    name: 'a disk has not been read through for long',
    facts: healthy({ figures: figuresOf({ scrub: scrubOf(15) }) }),
    verdict: 'degraded',
    codes: ['scrub-late'],
    says: ['DataServer 3 has not read its copies through for 15 d', 'tfs scrub --full-speed', '7 d'],
  },
  {
    name: 'a pass is under way for as long as it may, after the one before',
    facts: healthy({ figures: figuresOf({ scrub: { ...scrubOf(6), last: scrubOf(13).pass } }) }),
    verdict: 'healthy',
    codes: [],
  },
  {
    name: 'the first pass of all is never over, and rests for reads',
    facts: healthy({
      figures: figuresOf({
        scrub: { ...scrubOf(20), pass: { ...scrubOf(20).pass!, endedAtMs: undefined }, restsForReads: true },
      }),
    }),
    verdict: 'degraded',
    codes: ['scrub-late'],
    says: ['rests for reads'],
  },
  {
    name: 'nobody wants scrubs',
    facts: healthy({ figures: figuresOf({ scrub: scrubOf(90) }), scrubPassMs: 0 }),
    verdict: 'healthy',
    codes: [],
  },
  {
    name: 'files that nobody needs lie around',
    facts: healthy({ figures: figuresOf({ use: useWith({ files: 3, bytes: 5e6, oldestMs: 9 * DAY_MS }) }) }),
    verdict: 'healthy',
    codes: ['orphan-files'],
    says: ['3 files on DataServer 3 that no block needs', 'the oldest 9 d old'],
  },
  {
    name: 'files are being made',
    facts: healthy({ figures: figuresOf({ use: useWith({ files: 3, bytes: 5e6, oldestMs: DAY_MS }) }) }),
    verdict: 'healthy',
    codes: [],
  },
  { name: 'all is well', facts: healthy(), verdict: 'healthy', codes: [] },
  {
    name: 'a count is not there yet just after a start',
    facts: withBlocks({ byCopies: [], countedAgoMs: -1 }),
    verdict: 'healthy',
    codes: [],
  },
  {
    name: 'everything is stopped',
    facts: healthy({
      nameservers: [silentNameServer(0), silentNameServer(1)],
      processes: healthy().processes.map((one) => ({ ...one, ...dead, state: 'stopped' })),
      redis: { address: 'redis://127.0.0.1:7509', state: 'unreachable', why: 'refused' },
    }),
    verdict: 'at risk',
    codes: ['not-running'],
    says: ['npm start'],
  },
  {
    name: 'one DataServer was killed and comes back',
    facts: oneAway({ byCopies: [0, 0, 20, 0], underReplicated: 20 }),
    verdict: 'degraded',
    codes: ['server-down', 'fewer-copies', 'fewer-copies-than-wanted'],
    says: ['DataServer 3 is down', 'last heard 20 s ago', 'starts it again', 'it is copied to others'],
  },
  {
    name: 'a DataServer has just died: its process is gone, the leader still waits for it',
    facts: healthy({
      processes: withProcess('dataserver', 3, { ...dead, state: 'restarting', lastError: 'a bug' }),
    }),
    verdict: 'degraded',
    codes: ['server-down'],
    says: ['a bug'],
  },
  {
    name: 'a DataServer refuses its disk',
    facts: oneAway(
      { byCopies: [0, 0, 20, 0], underReplicated: 20 },
      { state: 'refused', lastError: '/disk3 is the disk of DataServer 2, not of DataServer 3' },
    ),
    verdict: 'degraded',
    codes: ['server-down', 'fewer-copies', 'fewer-copies-than-wanted'],
    says: ['the disk of DataServer 2', 'not started again', 'npm run reload -- dataserver-3'],
  },
  {
    name: 'a DataServer hangs',
    facts: oneAway({ byCopies: [0, 0, 20, 0], underReplicated: 20 }, { state: 'silent', pid: 1003 }),
    verdict: 'degraded',
    codes: ['server-down', 'fewer-copies', 'fewer-copies-than-wanted'],
    says: ['kill -9 1003'],
  },
  {
    name: 'a DataServer that left the configuration is still known',
    facts: withServers(server(1), server(2), server(3), server(9, { state: 'missing', heartbeatAgeMs: -1 })),
    verdict: 'degraded',
    codes: ['server-missing'],
    says: ['npx tfs remove-server 9', 'not in config.json'],
  },
  {
    name: 'a DataServer that was removed is still in the configuration',
    facts: healthy({
      processes: [
        ...healthy().processes,
        row('dataserver', 9, {
          ...dead,
          state: 'refused',
          lastError: 'server 9 was taken out of the cluster',
        }),
      ],
    }),
    verdict: 'degraded',
    codes: ['server-unknown'],
    says: ['DataServer 9', 'was taken out'],
  },
  {
    name: 'two of three DataServers are down',
    facts: healthy({
      nameservers: nameservers(
        map({
          completeView: false,
          safeMode: true,
          missing: [server(2).id, server(3).id],
          servers: [server(1), server(2, GONE), server(3, GONE)],
          blocks: { byCopies: [0, 20, 0, 0], underReplicated: 20 },
        }),
      ),
    }),
    verdict: 'at risk',
    codes: ['not-writable', 'one-copy', 'safe-mode', 'server-down', 'server-down'],
    says: ['uploads are refused with 503', '2 are needed'],
  },
  {
    name: 'a block has no copy at all',
    facts: withBlocks({ byCopies: [1, 0, 0, 19], underReplicated: 1 }),
    verdict: 'at risk',
    codes: ['no-copy'],
    says: ['1 block has no good copy', 'npx tfs verify --all-replicas'],
  },
  {
    name: 'one copy is what was asked for',
    facts: healthy({
      replicas: 1,
      minWrite: 1,
      nameservers: nameservers(map({ servers: [server(1)], replicas: 1, blocks: { byCopies: [0, 20] } })),
    }),
    verdict: 'healthy',
    codes: [],
  },
  {
    name: 'a disk has failed a write',
    facts: unwell({ io: { healthy: true, readOnly: true, probeMs: 1, reason: 'EIO: fdatasync' } }),
    verdict: 'degraded',
    codes: ['disk-read-only', 'fewer-copies'],
    says: ['EIO', 'smartctl', 'dataserver-3'],
  },
  {
    name: 'a disk fails its probes',
    facts: unwell({
      io: { healthy: false, readOnly: false, probeMs: 6000, reason: 'has not ended for 6 s' },
    }),
    verdict: 'degraded',
    codes: ['disk-fails', 'fewer-copies'],
    says: ['has not ended'],
  },
  {
    name: 'a disk is full',
    facts: unwell({ space: { totalBytes: 2 ** 40, freeBytes: 5 << 20, usedBytes: 2 ** 40 } }),
    verdict: 'degraded',
    codes: ['disk-full', 'fewer-copies'],
    says: ['5 MiB free at /disk3', '64 MiB'],
  },
  {
    name: 'all disks are full',
    facts: withServers(
      ...[1, 2, 3].map((id) => server(id, { space: { totalBytes: 1, freeBytes: 0, usedBytes: 1 } })),
    ),
    verdict: 'at risk',
    codes: ['not-writable', 'disk-full', 'disk-full', 'disk-full'],
  },
  {
    name: 'a disk is nearly full',
    facts: unwell({ space: { totalBytes: 2 ** 40, freeBytes: 640 << 20, usedBytes: 1 } }),
    verdict: 'degraded',
    codes: ['disk-nearly-full'],
    says: ['10 more blocks'],
  },
  {
    name: 'a disk is slow',
    facts: unwell({ io: { healthy: true, readOnly: false, probeMs: 900 } }),
    verdict: 'degraded',
    codes: ['disk-slow'],
    says: ['900 ms', 'iostat'],
  },
  {
    name: 'a clock is wrong',
    facts: unwell({ clockAheadMs: -7_200_000 }),
    verdict: 'degraded',
    codes: ['clock-wrong'],
    says: ['2 h behind', 'timedatectl'],
  },
  {
    name: 'clocks are never quite the same',
    facts: unwell({ clockAheadMs: 900 }),
    verdict: 'healthy',
    codes: [],
  },
  {
    name: 'a heartbeat is late',
    facts: unwell({ heartbeatAgeMs: 3100 }),
    verdict: 'degraded',
    codes: ['heartbeat-late'],
    says: ['3.1 s ago'],
  },
  {
    name: 'two DataServers do not reach each other',
    facts: withServers(server(1, { suspects: [server(2).id] }), server(2), server(3)),
    verdict: 'degraded',
    codes: ['slow-link'],
    says: ['DataServer 1 with 2'],
  },
  {
    name: 'the suspicion of a server that is down is nothing new',
    facts: withServers(server(1, { suspects: [server(3).id] }), server(2), server(3, GONE)),
    verdict: 'degraded',
    codes: ['server-down', 'fewer-copies'],
  },
  {
    name: 'the configuration has fewer domains than copies',
    facts: withServers(server(1), server(2)),
    verdict: 'degraded',
    codes: ['fewer-copies'],
    says: ['2 copies instead of 3', 'cluster.replicas to 2'],
  },
  {
    name: 'no block is open',
    facts: withServers(...[1, 2, 3].map((id) => server(id, { openBlocks: 0 }))),
    verdict: 'at risk',
    codes: ['no-open-block'],
  },
  {
    name: 'a seal that has just begun to wait is nothing',
    facts: withBlocks({ awaitingSeal: 3, oldestUnsealedMs: 4000 }),
    verdict: 'healthy',
    codes: [],
  },
  {
    name: 'a seal waits',
    facts: withBlocks({ awaitingSeal: 3, oldestUnsealedMs: 90_000 }),
    verdict: 'degraded',
    codes: ['seals-wait'],
    says: ['3 blocks wait', '90 s', '30 s', '10 min'],
  },
  {
    name: 'a copy denies a seal',
    facts: withBlocks({ contradicted: 1 }),
    verdict: 'at risk',
    codes: ['seal-contradicted'],
  },
  {
    name: 'copies that are sound and not the same',
    facts: withBlocks({ disagreeing: 2 }),
    verdict: 'degraded',
    codes: ['copies-disagree'],
    says: ['2 blocks have'],
  },
  {
    name: 'a copy is stale',
    facts: withBlocks({ stale: 2, byCopies: [0, 0, 2, 18], underReplicated: 2 }),
    verdict: 'degraded',
    codes: ['fewer-copies-than-wanted', 'stale-replicas'],
  },
  {
    name: 'a copy is damaged',
    facts: withBlocks({ suspect: 1, byCopies: [0, 0, 1, 19], underReplicated: 1 }),
    verdict: 'degraded',
    codes: ['fewer-copies-than-wanted', 'suspect'],
  },
  {
    name: 'a copy is quarantined',
    facts: withBlocks({ suspect: 1, quarantined: 1 }),
    verdict: 'at risk',
    codes: ['quarantined'],
    says: ['npx tfs verify'],
  },
  {
    name: 'records are lost on every copy',
    facts: healthy({
      nameservers: nameservers(
        map({
          servers: [server(1, { lostRecords: 3 }), server(2, { lostRecords: 3 }), server(3)],
          blocks: { suspect: 1, byCopies: [1, 0, 0, 19], underReplicated: 1, lostRecords: 2 },
        }),
      ),
    }),
    verdict: 'at risk',
    codes: ['no-copy', 'lost-records', 'suspect'],
  },
  {
    name: 'no NameServer answers',
    facts: healthy({ nameservers: [silentNameServer(0), silentNameServer(1)] }),
    verdict: 'at risk',
    codes: ['no-nameserver'],
    says: ['connection refused', 'npm run reload -- nameserver'],
  },
  {
    name: 'the standby is down',
    facts: healthy({
      nameservers: [nameservers(map())[0]!, silentNameServer(1)],
      processes: withProcess('nameserver', 1, { ...dead, state: 'refused', lastError: 'no such directory' }),
    }),
    verdict: 'degraded',
    codes: ['nameserver-down'],
    says: ['NameServer 1', 'no such directory', 'npm run reload -- nameserver-1'],
  },
  {
    name: 'the standby does not hear a DataServer',
    facts: healthy({
      nameservers: nameservers(map(), { completeView: false, missing: [server(1).id, server(2).id] }),
    }),
    verdict: 'degraded',
    codes: ['standby-behind'],
    says: ['NameServer 1', 'DataServer 1, 2'],
  },
  {
    name: 'the table of the standby is not what a DataServer holds',
    facts: healthy({ nameservers: nameservers(map({ inStep: 3 }), { inStep: 2 }) }),
    verdict: 'degraded',
    codes: ['standby-behind'],
    says: ['2 of 3 DataServers'],
  },
  {
    name: 'nobody leads',
    facts: healthy({ nameservers: nameservers(map()).map((ns) => ({ ...ns, map: map({ leader: false }) })) }),
    verdict: 'at risk',
    codes: ['no-leader'],
    says: ['npx tfs promote'],
  },
  {
    name: 'two lead: the higher reign counts',
    facts: healthy({
      nameservers: [
        { ...silentNameServer(0), map: map({ reign: reign(7, 0), servers: [server(1, GONE)] }) },
        { ...silentNameServer(1), map: map({ reign: reign(8, 1) }) },
      ],
    }),
    verdict: 'degraded',
    codes: ['two-leaders'],
  },
  {
    name: 'one NameServer is a choice',
    facts: healthy({ nameservers: [nameservers(map())[0]!] }),
    verdict: 'healthy',
    codes: ['single-nameserver'],
  },
  {
    name: 'one gateway worker is down',
    facts: healthy({ processes: withProcess('gateway', 1, { ...dead, state: 'restarting' }) }),
    verdict: 'degraded',
    codes: ['gateway-down'],
  },
  {
    name: 'no gateway is up',
    facts: healthy({
      processes: healthy().processes.map((one) =>
        one.kind === 'gateway' ? { ...one, ...dead, state: 'refused', lastError: 'port taken' } : one,
      ),
    }),
    verdict: 'at risk',
    codes: ['no-gateway'],
    says: ['port taken'],
  },
  {
    name: 'a process does not stay up',
    facts: healthy({
      processes: withProcess('dataserver', 2, { restarts: 7, ageMs: 4000, lastError: 'assertion failed' }),
    }),
    verdict: 'degraded',
    codes: ['does-not-stay-up'],
    says: ['7 times', 'assertion failed', 'npm run logs -- dataserver-2'],
  },
  {
    name: 'the process manager is gone',
    facts: healthy({ isManaged: false }),
    verdict: 'degraded',
    codes: ['no-manager'],
    says: ['npm start'],
  },
  {
    name: 'Redis is down',
    facts: healthy({ redis: { address: 'redis://r:6379', state: 'unreachable', why: 'refused' } }),
    verdict: 'degraded',
    codes: ['redis-down'],
    says: ['goes on leading'],
  },
  {
    name: 'Redis evicts',
    facts: healthy({ redis: { address: 'redis://r:6379', state: 'evicts', why: 'allkeys-lru' } }),
    verdict: 'degraded',
    codes: ['redis-evicts'],
    says: ['noeviction'],
  },
  {
    name: 'the leader does not reach Redis, which answers here',
    facts: withJobs({ trouble: 'Redis is not there (reconnecting)' }),
    verdict: 'degraded',
    codes: ['no-job-queue'],
    says: ['Redis is not there'],
  },
  {
    name: 'Redis is down: that says it all',
    facts: {
      ...withJobs({ trouble: 'Redis is not there (reconnecting)' }),
      redis: { address: 'redis://r:6379', state: 'unreachable', why: 'ECONNREFUSED' },
    },
    verdict: 'degraded',
    codes: ['redis-down'],
    says: ['blocks that have one left'],
  },
  {
    name: 'jobs fail again and again',
    facts: withJobs({ parked: 2 }),
    verdict: 'degraded',
    codes: ['jobs-fail'],
    says: ['tfs jobs'],
  },
  {
    name: 'jobs are paused, and none is wanted',
    facts: withJobs({ paused: ['replicate'] }),
    verdict: 'healthy',
    codes: ['jobs-paused'],
    says: ['tfs jobs resume replicate'],
  },
  {
    name: 'jobs are paused that are wanted',
    facts: withJobs({ paused: ['replicate'], wantedBlocks: 3, wantedBytes: 1e8 }),
    verdict: 'degraded',
    codes: ['jobs-paused'],
  },
  {
    name: 'copies are being made',
    facts: withJobs({ wantedBlocks: 3, wantedBytes: 1e8, bytesPerSecond: 1e7, etaMs: 10_000 }),
    verdict: 'healthy',
    codes: ['work-on-blocks'],
    says: ['10.0 MB/s', 'about 10 s'],
  },
  {
    name: 'a mount is missing',
    facts: healthy({ mounts: [mount(1), mount(2), mount(3, { state: 'missing' })] }),
    verdict: 'degraded',
    codes: ['mount-missing'],
    says: ['mount /disk3', 'npm run reload -- dataserver-3'],
  },
  {
    name: 'a mount holds the wrong disk',
    facts: healthy({ mounts: [mount(1, { state: 'foreign', why: 'it is the disk of DataServer 9' })] }),
    verdict: 'degraded',
    codes: ['mount-foreign'],
    says: ['DataServer 9'],
  },
  {
    name: 'a mount hangs',
    facts: healthy({ mounts: [mount(1, { state: 'unreadable', why: 'it did not answer within 2 s' })] }),
    verdict: 'degraded',
    codes: ['mount-unreadable'],
  },
  {
    name: 'a mount was added and not taken up, and all mounts share a disk',
    facts: healthy({ mounts: [mount(1), mount(2, { device: 51 }), mount(4, { state: 'new' })] }),
    verdict: 'healthy',
    codes: ['mount-new', 'shared-disk'],
  },
  {
    name: 'the map cannot be stored, equal contents are not found',
    facts: healthy({
      processes: [
        ...withProcess('nameserver', 0, { details: { checkpointFailing: true } }),
        row('dataserver', 4, { details: { dedup: false } }),
      ],
    }),
    verdict: 'degraded',
    codes: ['checkpoint-failing', 'dedup-off'],
  },
  {
    name: 'a cache in front does not take purges, for long; another only just',
    facts: healthy({
      processes: [
        ...withProcess('gateway', 0, {
          details: { purgesPending: 7, purgeFailing: 'cache edge: it answered 503', purgeFailingMs: 400_000 },
        }),
        row('gateway', 9, {
          details: { purgesPending: 3, purgeFailing: 'cache x: late', purgeFailingMs: 4_000 },
        }),
      ],
    }),
    verdict: 'degraded',
    codes: ['caches-not-purged'],
    says: ['for 6 min, 7 purges wait', 'cache edge: it answered 503'],
  },
  {
    name: 'a cache in front that has just begun to fail is no finding',
    facts: healthy({
      processes: withProcess('gateway', 0, {
        details: { purgesPending: 3, purgeFailing: 'cache x: late', purgeFailingMs: 4_000 },
      }),
    }),
    verdict: 'healthy',
    codes: [],
  },
];

describe('doctor', (test) => {
  for (const { name, facts, verdict, codes, says = [] } of SYMPTOMS)
    test(name, () => {
      const diagnosis = diagnose(facts);
      assert.equal(
        diagnosis.findings.map(({ code }) => code),
        codes,
      );
      assert.is(diagnosis.verdict, verdict);
      for (const finding of diagnosis.findings) complete(finding);
      const [first] = diagnosis.findings;
      const text = `${first?.what} ${first?.why} ${first?.itself} ${first?.todo}`;
      for (const word of says) assert.match(text, word, `${name}: ${text}`);
    });
});

/** Nobody may be told half of it. */
function complete({ what, why, itself, count, todo, code }: Finding): void {
  for (const part of [what, why, itself]) assert.ok(part.length > 0, `${code} says all of it`);
  assert.ok(count > 0, `${code} has a count`);
  assert.ok(todo === null || todo.length > 0);
}

function reign(epoch: number, nameserver: number): ClusterMap['reign'] {
  return { epoch: epoch as ClusterMap['reign']['epoch'], nameserver };
}
