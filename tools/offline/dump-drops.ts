import { DropReason, decodeDropLog } from '../../common/format/drop-log.ts';
import type { Emit } from './dump.ts';

/** Prints a drop log. @returns whether it is sound */
export function dumpDrops(path: string, bytes: Buffer, emit: Emit): boolean {
  const decoded = decodeDropLog(bytes);
  if (!decoded.ok) {
    emit({
      value: { kind: 'drops', path, why: decoded.why },
      text: `drop log ${path}: DAMAGED: ${decoded.why}`,
    });
    return false;
  }
  const { clusterUuid, entries, damaged } = decoded.value;
  const flaw = damaged === 0 ? '' : `, DAMAGED: ${damaged} of its entries do not verify`;
  emit({
    value: { kind: 'drops', path, clusterUuid, entries: entries.length, damaged },
    text: `drop log ${path}: cluster ${clusterUuid}, ${entries.length} entries${flaw}`,
  });
  for (const { block, generation, version, reason, atMs } of entries) {
    const why = reasonName(reason);
    const at = new Date(atMs).toISOString();
    emit({
      value: { kind: 'drop', block, generation, version, reason: why, at },
      text: `${at}  block ${String(block).padEnd(10)} generation ${generation}  ${why.padEnd(8)}  (${version.epoch}, ${version.n})`,
    });
  }
  return damaged === 0;
}

const reasonName = (reason: number): string =>
  Object.entries(DropReason)
    .find(([, value]) => value === reason)![0]
    .toLowerCase();
