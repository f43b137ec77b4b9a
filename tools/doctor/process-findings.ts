import { PURGE_FAILING_MS } from '../../common/limits.ts';
import type { ProcessRow } from '../cluster/processes.ts';
import type { Facts, SeenProcess } from './facts.ts';
import { type Finding, plural } from './finding.ts';

/** A process that was started again this often, and a short while ago, does not stay up. */
const FLAPPING_RESTARTS_MIN = 3;
const FLAPPING_AGE_MS_MAX = 60_000;

type Kind = ProcessRow['kind'];
const NOUN: Readonly<Record<Kind, string>> = {
  redis: 'Redis',
  nameserver: 'NameServer',
  dataserver: 'DataServer',
  gateway: 'gateway',
};

/** Whether anything of the cluster runs; when nothing does there is nothing else to say. */
export const isStopped = ({ processes, nameservers }: Facts): boolean =>
  processes.every(({ kind, pid, healthy }) => kind === 'redis' || (pid === null && !healthy)) &&
  nameservers.every(({ map }) => map === undefined);

export function stoppedFinding({ processes }: Facts): Finding {
  const refused = processes.filter(({ state }) => state === 'refused');
  return {
    code: 'not-running',
    level: 'at risk',
    count: processes.length,
    what: 'nothing of this cluster runs',
    why:
      refused.length > 0
        ? refused
            .map((row) => `${nameOf(row)} refused to start: ${row.lastError ?? 'see its log'}`)
            .join('; ')
        : 'it was stopped, or never started',
    itself: 'nothing; what is stored stays where it is',
    todo: 'npm start',
  };
}

/** Processes that need somebody and that no other finding speaks of: gateways, the manager, those that do not stay up. */
export function processFindings(facts: Facts): Finding[] {
  return [...manager(facts), ...gateways(facts), ...flapping(facts), ...impaired(facts), ...unpurged(facts)];
}

function manager({ isManaged, processes }: Facts): Finding[] {
  const running = processes.filter(({ kind, healthy }) => healthy && kind !== 'redis');
  if (isManaged || running.length === 0) return [];
  return [
    {
      code: 'no-manager',
      level: 'degraded',
      count: running.length,
      what: `${plural(running.length, 'process runs', 'processes run')} without their process manager`,
      why: 'PM2 was ended; whatever stops now stays stopped',
      itself: 'nothing',
      todo: 'npm start (ends what was left behind and starts all of it again)',
    },
  ];
}

function gateways({ processes }: Facts): Finding[] {
  const rows = processes.filter(({ kind }) => kind === 'gateway');
  const down = rows.filter(({ healthy }) => !healthy);
  if (down.length === 0) return [];
  const all = down.length === rows.length;
  return [
    {
      code: all ? 'no-gateway' : 'gateway-down',
      level: all ? 'at risk' : 'degraded',
      count: down.length,
      what: all ? 'no gateway serves' : `${down.length} of ${rows.length} gateway workers do not serve`,
      why: down.map((row) => `worker ${row.id} is ${row.state}${because(row)}`).join('; '),
      itself: 'PM2 starts a worker that ended again within a second; the others serve',
      todo: 'npm run logs -- gateway, mend what it says, then: npm run reload -- gateway',
    },
  ];
}

function flapping({ processes }: Facts): Finding[] {
  return processes
    .filter(({ healthy, restarts, ageMs }) => {
      const isYoung = ageMs !== null && ageMs < FLAPPING_AGE_MS_MAX;
      return healthy && isYoung && restarts >= FLAPPING_RESTARTS_MIN;
    })
    .map((row) => ({
      code: 'does-not-stay-up',
      level: 'degraded' as const,
      count: row.restarts,
      what: `${nameOf(row)} was started again ${row.restarts} times, the last time ${Math.round((row.ageMs ?? 0) / 1000)} s ago`,
      why: row.lastError ?? 'it was ended from outside, or reloaded by hand',
      itself: 'PM2 starts it again each time',
      todo: `npm run logs -- ${managedName(row)}`,
    }));
}

/** What a process that serves says of itself and that costs something. */
function impaired({ processes }: Facts): Finding[] {
  const dedup = processes.filter(({ details }) => details?.['dedup'] === false);
  const checkpoint = processes.filter(({ details }) => details?.['checkpointFailing'] === true);
  const findings: Finding[] = [];
  if (dedup.length > 0)
    findings.push({
      code: 'dedup-off',
      level: 'note',
      count: dedup.length,
      what: `${dedup.map(nameOf).join(', ')} does not look for equal contents`,
      why: 'its SHA-1 index could not be written',
      itself: 'every upload is stored, also what is there already; nothing is lost',
      todo: `make room on its disk, then: npm run reload -- ${managedName(dedup[0]!)}`,
    });
  if (checkpoint.length > 0)
    findings.push({
      code: 'checkpoint-failing',
      level: 'degraded',
      count: checkpoint.length,
      what: `${checkpoint.map(nameOf).join(', ')} cannot store its map of blocks`,
      why: 'its disk is full or fails',
      itself: 'the map is in memory and is told again by the DataServers after a restart',
      todo: 'df -h on the directory of the NameServer (nameservers[].dir in config.json): make room',
    });
  return findings;
}

/** Caches in front that do not hear that a picture is gone. */
function unpurged({ processes }: Facts): Finding[] {
  const failingMs = (row: SeenProcess): number => Number(row.details?.['purgeFailingMs'] ?? 0);
  const rows = processes.filter((row) => failingMs(row) > PURGE_FAILING_MS);
  if (rows.length === 0) return [];
  const [worst] = rows.sort((a, b) => failingMs(b) - failingMs(a));
  const pending = Math.max(...rows.map(({ details }) => Number(details?.['purgesPending'] ?? 0)));
  return [
    {
      code: 'caches-not-purged',
      level: 'degraded',
      count: Math.max(1, pending),
      what: `a cache in front has not been purged for ${Math.floor(failingMs(worst!) / 60_000)} min, ${plural(pending, 'purge waits', 'purges wait')}`,
      why: String(worst!.details?.['purgeFailing'] ?? 'it does not answer'),
      itself:
        'it is tried again, for a day after each change; until then it may show what was deleted or hidden',
      todo: 'mend the cache, or correct purge.caches in config.json and: npm run reload -- gateway',
    },
  ];
}

/** Why a process does not do its work, as far as this machine can see, and what happens next. */
export function whyProcess(
  { processes }: Facts,
  kind: Kind,
  id: string,
  otherwise = 'no answer',
): Pick<Finding, 'why' | 'itself' | 'todo'> {
  const row = processes.find((candidate) => candidate.kind === kind && candidate.id === id);
  if (row === undefined)
    return {
      why: `it is not in config.json here; ${otherwise}`,
      itself: 'nothing from here',
      todo: 'look at the machine it runs on',
    };
  const name = managedName(row);
  const mend = `npm run logs -- ${name}, mend what it says, then: npm run reload -- ${name}`;
  const again = 'PM2 starts it again as soon as it ends';
  switch (row.state) {
    case 'refused':
      return {
        why: `it refused to start: ${row.lastError ?? 'see its log'}`,
        itself: 'It is not started again until somebody acts.',
        todo: mend,
      };
    case 'stopped':
    case 'errored':
      return {
        why: 'its process is stopped',
        itself: 'It stays so.',
        todo: `npm run reload -- ${name} (starts it)`,
      };
    case 'restarting':
    case 'starting':
      return {
        why: `its process has just ended and starts again${because(row)}`,
        itself: `${again}, after 200 ms.`,
        todo: row.restarts > 1 ? mend : null,
      };
    case 'silent':
      return {
        why: `its process (${row.pid ?? '?'}) runs and does not answer: it is stopped, or hangs in a disk`,
        itself: 'Nothing, as long as the process is there.',
        todo: `look at "dmesg" and "iostat -x 1"; then end it, PM2 starts it again: kill -9 ${row.pid ?? 'PID'}`,
      };
    default:
      if (!row.healthy)
        return { why: `its process says "${row.state}"${because(row)}`, itself: `${again}.`, todo: mend };
      return {
        why: `its process runs, and the leader has not heard it: ${otherwise}`,
        itself: 'It tries again every 300 ms.',
        todo: `check the network between the servers; npm run logs -- ${name}`,
      };
  }
}

/** As PM2 and `npm run logs`, `npm run reload` know it. */
export const managedName = ({ kind, id }: Pick<ProcessRow, 'kind' | 'id'>): string =>
  kind === 'redis' || kind === 'gateway' ? kind : `${kind}-${id}`;

const nameOf = ({ kind, id }: Pick<ProcessRow, 'kind' | 'id'>): string =>
  kind === 'redis' ? 'Redis' : `${NOUN[kind]} ${id}`;
const because = ({ lastError }: SeenProcess): string => (lastError === null ? '' : ` (${lastError})`);
