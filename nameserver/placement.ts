import type { ServerId } from '../common/ids.ts';
import { ELIGIBLE_HEARTBEAT_AGE_MS_MAX } from '../common/limits.ts';

/** One DataServer, as placement sees it. */
export interface Candidate {
  readonly id: ServerId;
  /** What fails together; a write set has at most one member of each. */
  readonly domain: string;
  readonly freeBytes: number;
  /** Infinity when it has not been heard in this reign. */
  readonly heartbeatAgeMs: number;
  /** It promised the reign that asks: it will refuse an older leader. */
  readonly promised: boolean;
  readonly ioHealthy: boolean;
  readonly readOnly: boolean;
  /** Its disk takes long for every write. */
  readonly slow: boolean;
  /** Peers it cannot reach, or finds slow. */
  readonly suspects: ReadonlySet<ServerId>;
  /** It stops. */
  readonly leaving: boolean;
  /** It is to be emptied. */
  readonly drained: boolean;
}

export interface PlacementAsk {
  /** Member number one: it asked for the block. */
  readonly primary: ServerId;
  /** In any order; the primary is one of them. */
  readonly servers: readonly Candidate[];
  /** Peers the primary does not want now. */
  readonly avoid: ReadonlySet<ServerId>;
  readonly replicas: number;
  readonly minWrite: number;
  readonly blockBytes: number;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

export type Placement =
  | { readonly ok: true; readonly members: readonly ServerId[] }
  /** `why` names each server that was left out and the reason. */
  | {
      readonly ok: false;
      /** With an eligible server; 0 where the primary itself is not eligible. */
      readonly domains: number;
      readonly why: string;
    };

/**
 * Chooses the write set of a new block: the primary and servers of other failure domains, K = min(replicas, domains
 * with an eligible server). More free space makes a server more likely, in proportion, and nothing makes it certain:
 * always taking the emptiest would send every new block to the newest disk. Servers with a slow disk, which every upload
 * to the block would wait for, are eligible only where the others are fewer than `minWrite`.
 */
export function place(ask: PlacementAsk): Placement {
  const fast = placeAmong(ask, false);
  if (fast.ok || !ask.servers.some((server) => server.slow)) return fast;
  const isPrimarySlow = ask.servers.find(({ id }) => id === ask.primary)?.slow ?? false;
  // Other primaries can do without it.
  if (isPrimarySlow && fastDomains(ask) >= ask.minWrite) return fast;
  return placeAmong(ask, true);
}

/** Weighted drawing without replacement by keys u^(1/w): Efraimidis and Spirakis, 2006. */
function placeAmong(ask: PlacementAsk, withSlow: boolean): Placement {
  const primary = ask.servers.find((server) => server.id === ask.primary);
  const reasons: string[] = [];
  const refuse = (domains: number): Placement => ({ ok: false, domains, why: reasons.join('; ') });
  if (primary === undefined) {
    reasons.push(`server ${ask.primary} is not registered`);
    return refuse(0);
  }
  const drawn: { readonly server: Candidate; readonly key: number }[] = [];
  let isPrimaryFit = false;
  for (const server of ask.servers) {
    const why =
      ineligible(server, primary, ask) ?? (server.slow && !withSlow ? 'its disk is slow' : undefined);
    if (why !== undefined) reasons.push(`server ${server.id}: ${why}`);
    else if (server === primary) isPrimaryFit = true;
    else drawn.push({ server, key: Math.log(1 - ask.random()) / Math.max(1, server.freeBytes) });
  }
  if (!isPrimaryFit) return refuse(0);
  drawn.sort((a, b) => b.key - a.key || a.server.id - b.server.id);

  const members = [primary.id];
  const domains = new Set([primary.domain]);
  for (const { server } of drawn) {
    if (members.length === ask.replicas) break;
    if (domains.has(server.domain)) continue;
    domains.add(server.domain);
    members.push(server.id);
  }
  return members.length >= ask.minWrite ? { ok: true, members } : refuse(domains.size);
}

/** Failure domains that a block of another primary could use. */
function fastDomains(ask: PlacementAsk): number {
  const domains = new Set<string>();
  for (const server of ask.servers)
    if (!server.slow && unfit(server, ask, false) === undefined) domains.add(server.domain);
  return domains.size;
}

/** @returns why this server cannot be a member, for the person who has to change that */
function ineligible(server: Candidate, primary: Candidate, ask: PlacementAsk): string | undefined {
  // The primary has just spoken: it asks.
  const why = unfit(server, ask, server === primary);
  if (why !== undefined) return why;
  if (ask.avoid.has(server.id)) return `server ${primary.id} cannot work with it now`;
  if (primary.suspects.has(server.id)) return `server ${primary.id} found it slow or unreachable`;
  if (server.suspects.has(primary.id)) return `it found server ${primary.id} slow or unreachable`;
  return undefined;
}

/** @returns why this server cannot be a member of any write set */
function unfit(server: Candidate, { blockBytes }: PlacementAsk, isAsking: boolean): string | undefined {
  if (server.heartbeatAgeMs === Number.POSITIVE_INFINITY) return 'not heard since this NameServer leads';
  if (!isAsking && server.heartbeatAgeMs >= ELIGIBLE_HEARTBEAT_AGE_MS_MAX)
    return `no heartbeat for ${(server.heartbeatAgeMs / 1000).toFixed(1)} s`;
  if (server.leaving) return 'it stops';
  if (server.drained) return 'it is to be emptied ("tfs drain")';
  if (!server.promised) return 'has not promised this epoch yet';
  if (server.readOnly) return 'its disk takes no writes';
  if (!server.ioHealthy) return 'its disk is not healthy';
  if (server.freeBytes < blockBytes) return `only ${server.freeBytes} bytes free`;
  return undefined;
}
