import type { Facts, MountFacts } from './facts.ts';
import { type Finding, plural } from './finding.ts';

/** What the cluster stands on: Redis, and the disks of this machine. */
export function placeFindings(facts: Facts): Finding[] {
  return [...redis(facts), ...facts.mounts.flatMap((mount) => mounted(mount)), ...shared(facts.mounts)];
}

function redis({ redis: { state, address, why }, nameservers }: Facts): Finding[] {
  if (state === 'up') return [];
  const isDown = state === 'unreachable';
  return [
    {
      code: isDown ? 'redis-down' : 'redis-evicts',
      level: 'degraded',
      count: 1,
      what: isDown ? `Redis at ${address} does not answer` : `Redis at ${address} throws keys away`,
      why: why ?? 'no answer',
      itself:
        nameservers.length > 1
          ? 'nothing is lost: who leads goes on leading; a change of leader takes 3 to 6 s instead of 2. Lost copies are made again only of blocks that have one left'
          : 'nothing is lost; lost copies are made again only of blocks that have one left',
      todo: isDown
        ? 'npm run logs -- redis; start your own, or for the private one: npm run reload -- redis'
        : 'redis-cli config set maxmemory-policy noeviction, and the same in its redis.conf',
    },
  ];
}

function mounted({ server, path, state, why }: MountFacts): Finding[] {
  const one = { level: 'degraded' as const, count: 1, why: why ?? '' };
  const start = `npm run reload -- dataserver-${server}`;
  const others = 'the other copies of what it holds are used';
  switch (state) {
    case 'ours':
      return [];
    case 'new':
      return [
        {
          ...one,
          level: 'note',
          code: 'mount-new',
          what: `${path} is in config.json for DataServer ${server} and not in use yet`,
          why: 'it was added after the last start',
          itself: 'nothing',
          todo: 'npm run reload (formats and starts it)',
        },
      ];
    case 'missing':
      return [
        {
          ...one,
          code: 'mount-missing',
          what: `${path} of DataServer ${server} is empty or gone`,
          why: 'it was formatted for this cluster: its disk is not mounted, or is lost',
          itself: `it is never formatted again by itself; ${others}`,
          todo: `mount ${path}, then: ${start}. If it is lost: docs/operations.md, "Replace a disk"`,
        },
      ];
    case 'foreign':
      return [
        {
          ...one,
          code: 'mount-foreign',
          what: `${path} of DataServer ${server} holds somebody else's disk`,
          itself: `its DataServer refuses to start; nothing on it is changed; ${others}`,
          todo: `mount the right disk at ${path}, or correct mounts[] in config.json; then: ${start}`,
        },
      ];
    case 'unreadable':
      return [
        {
          ...one,
          code: 'mount-unreadable',
          what: `${path} of DataServer ${server} cannot be read`,
          itself: others,
          todo: `ls ${path}; dmesg | tail; smartctl -a on its disk`,
        },
      ];
  }
}

/** Copies on one disk fail together, whatever the configuration calls them. */
function shared(mounts: readonly MountFacts[]): Finding[] {
  const byDevice = new Map<number, number[]>();
  for (const { device, server, state } of mounts)
    if (device !== undefined && state === 'ours')
      byDevice.set(device, [...(byDevice.get(device) ?? []), server]);
  const together = [...byDevice.values()].filter((servers) => servers.length > 1);
  if (together.length === 0) return [];
  return [
    {
      code: 'shared-disk',
      level: 'note',
      count: together.length,
      what: `DataServers ${together.map((servers) => servers.join(', ')).join(' and ')} are on one file system`,
      why: 'a disk that fails takes their copies with it, all at once',
      itself: 'nothing',
      todo: `for anything but a trial: give each mount a disk of its own (${plural(mounts.length, 'mount')} in config.json)`,
    },
  ];
}
