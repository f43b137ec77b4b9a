import type { ClusterMap } from '../../common/wire/control.ts';
import { mapOf } from '../cluster/cluster-view.ts';
import type { Facts } from './facts.ts';
import type { Finding } from './finding.ts';
import { whyProcess } from './process-findings.ts';

/** Who leads, what the leader knows, and whether another one could. */
export function nameserverFindings(facts: Facts): Finding[] {
  const { nameservers } = facts;
  const answering = nameservers.filter(({ map }) => map !== undefined);
  if (answering.length === 0) return [none(facts)];
  return [...silent(facts), ...leadership(facts), ...views(facts), ...single(facts)];
}

function none({ nameservers }: Facts): Finding {
  return {
    code: 'no-nameserver',
    level: 'at risk',
    count: nameservers.length,
    what: 'no NameServer answers',
    why: nameservers.map(({ id, whyNot }) => `NameServer ${id}: ${whyNot ?? 'no answer'}`).join('; '),
    itself:
      'reads go on, and writes until the blocks that are open are full; nothing is sealed, and what no replica can confirm is marked provisional',
    todo: 'npm run logs -- nameserver, mend what it says, then: npm run reload -- nameserver',
  };
}

function silent(facts: Facts): Finding[] {
  return facts.nameservers
    .filter(({ map }) => map === undefined)
    .map(({ id, whyNot }) => {
      const { why, itself, todo } = whyProcess(facts, 'nameserver', String(id), whyNot);
      return {
        code: 'nameserver-down',
        level: 'degraded' as const,
        count: 1,
        what: `NameServer ${id} does not answer`,
        why,
        itself: `the other one leads; nobody could take over from it. ${itself}`,
        todo,
      };
    });
}

function leadership({ nameservers }: Facts): Finding[] {
  const leaders = nameservers.filter(({ map }) => map?.leader);
  if (leaders.length === 1) return [];
  if (leaders.length === 0)
    return [
      {
        code: 'no-leader',
        level: 'at risk',
        count: 1,
        what: 'no NameServer leads',
        why: 'an election is under way, or cannot end',
        itself:
          'a new leader is there within 2 s; without Redis, and when the other NameServer does not answer, after 3 s (NameServer 0) or 6 s (NameServer 1)',
        todo: 'ask again in ten seconds; if it stays: npm run logs -- nameserver, and: npx tfs promote 0 --force',
      },
    ];
  return [
    {
      code: 'two-leaders',
      level: 'degraded',
      count: leaders.length,
      what: `${leaders.length} NameServers say that they lead`,
      why: 'the one with the lower epoch has not heard of the other yet; DataServers obey the higher one',
      itself: 'the lower one steps down as soon as it hears a DataServer or the other one',
      todo: 'if it stays, the two cannot reach each other: check the network between them',
    },
  ];
}

function views(facts: Facts): Finding[] {
  const map = mapOf(facts.nameservers);
  if (map === undefined || !map.leader) return [];
  return map.safeMode ? [safeMode(map)] : behind(facts, map);
}

function safeMode({ missing, servers }: ClusterMap): Finding {
  const down = servers.filter(({ id, state }) => missing.includes(id) && state !== 'up').map(({ id }) => id);
  return {
    code: 'safe-mode',
    level: 'degraded',
    count: Math.max(1, missing.length),
    what: 'the leader is in safe mode: it has not heard of every block yet',
    why: `it waits for the blocks of DataServer ${missing.join(', ')}`,
    itself:
      'ends by itself when enough of them have reported; until then a name of an unknown block is 503 and not 404, and blocks may run out of numbers',
    todo:
      down.length > 0
        ? `start DataServer ${down.join(', ')} (npm run reload -- dataserver-${down[0]}); one that is lost for good: npx tfs remove-server ${down[0]}`
        : null,
  };
}

/** A standby that does not know every block would lead in safe mode; one whose table is another, by wrong places. */
function behind({ nameservers }: Facts, leading: ClusterMap): Finding[] {
  const up = leading.servers.filter(({ state }) => state === 'up').length;
  return nameservers.flatMap(({ id, map }): Finding[] => {
    if (map === undefined || map.leader) return [];
    const isBlind = leading.completeView && !map.completeView;
    const isOff = leading.inStep >= up && map.inStep < up;
    if (!isBlind && !isOff) return [];
    return [
      {
        code: 'standby-behind',
        level: 'degraded',
        count: Math.max(1, isBlind ? map.missing.length : up - map.inStep),
        what: `NameServer ${id}, the standby, does not know what the leader knows`,
        why: isBlind
          ? `it has not heard DataServer ${map.missing.join(', ')} in full, and the leader has`
          : `its table is exactly that of ${map.inStep} of ${up} DataServers`,
        itself:
          'a DataServer reports to both as soon as it reaches them, a second after a start, and again where tables differ',
        todo: `if it stays, something cannot be reached from there: npm run logs -- nameserver-${id}`,
      },
    ];
  });
}

function single({ nameservers }: Facts): Finding[] {
  if (nameservers.length !== 1) return [];
  return [
    {
      code: 'single-nameserver',
      level: 'note',
      count: 1,
      what: 'there is one NameServer only',
      why: 'config.json names no second one',
      itself: 'while it is away nothing new is opened or sealed; the process manager starts it again',
      todo: 'add a second entry to "nameservers" in config.json, then: npm run reload',
    },
  ];
}
