import { toTfsError } from '../../common/errors.ts';
import type { BlockId, ServerId } from '../../common/ids.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { ServerInfo } from '../../common/wire/control.ts';
import type { BlockEntry } from '../../common/wire/messages.ts';
import { type Finding, replicaKey } from './findings.ts';
import type { Operator } from './operator.ts';

const LOOK_MS = 500;

interface Damaged {
  readonly server: ServerId;
  readonly block: BlockId;
  findings: Finding[];
}

/**
 * Waits until replicas that were found damaged are whole again: no longer suspect, and read through once more.
 *
 * @returns what is still wrong
 */
export async function awaitRepair(
  operator: Operator,
  { servers, findings }: { readonly servers: readonly ServerInfo[]; readonly findings: readonly Finding[] },
  { waitMs, clock, onRepaired }: RepairWait,
): Promise<Finding[]> {
  const left = new Map<string, Damaged>();
  for (const finding of findings) {
    const { server, block } = finding;
    const key = replicaKey(server, block);
    const known = left.get(key);
    if (known === undefined) left.set(key, { server, block, findings: [finding] });
    else known.findings.push(finding);
  }
  const untilMs = clock.monotonic() + waitMs;
  while (left.size > 0) {
    for (const server of servers) {
      const damaged = [...left.values()].filter((replica) => replica.server === server.id);
      if (damaged.length === 0) continue;
      const entries = await operator.list(server).catch(() => []);
      const byBlock = new Map(entries.map((entry) => [entry.block, entry]));
      for (const replica of damaged) {
        if (!(await isWhole(operator, server, replica, byBlock.get(replica.block)))) continue;
        left.delete(replicaKey(replica.server, replica.block));
        onRepaired(replica.server, replica.block);
      }
    }
    if (left.size === 0 || clock.monotonic() >= untilMs) break;
    await clock.sleep(LOOK_MS);
  }
  return [...left.values()].flatMap((replica) => replica.findings);
}

export interface RepairWait {
  readonly waitMs: number;
  readonly clock: Clock;
  readonly onRepaired: (server: ServerId, block: BlockId) => void;
}

/** A replica that is still suspect is not read again: its server says itself when it is repaired. */
async function isWhole(
  operator: Operator,
  server: ServerInfo,
  replica: Damaged,
  entry: BlockEntry | undefined,
): Promise<boolean> {
  if (entry === undefined || entry.flags !== 0) return false;
  try {
    const { problems } = await operator.verify(server, replica.block);
    if (problems.length === 0) return true;
    replica.findings = problems.map((problem) => ({ server: server.id, block: replica.block, problem }));
  } catch (error) {
    const problem = `could not be read: ${toTfsError(error).message}`;
    replica.findings = [{ server: server.id, block: replica.block, problem }];
  }
  return false;
}
