import { blockFindings } from './block-findings.ts';
import type { Facts } from './facts.ts';
import type { Finding, Level } from './finding.ts';
import { jobFindings } from './job-findings.ts';
import { nameserverFindings } from './nameserver-findings.ts';
import { placeFindings } from './place-findings.ts';
import { isStopped, processFindings, stoppedFinding } from './process-findings.ts';
import { serverFindings } from './server-findings.ts';
import { upkeepFindings } from './upkeep-findings.ts';

export type Verdict = 'healthy' | 'degraded' | 'at risk';

export interface Diagnosis {
  readonly verdict: Verdict;
  /** The worst first. */
  readonly findings: readonly Finding[];
}

const RANK: Readonly<Record<Level, number>> = { 'at risk': 0, degraded: 1, note: 2 };

/** From what was seen of a cluster to what is wrong with it, what will happen, and what somebody has to do. Pure. */
export function diagnose(facts: Facts): Diagnosis {
  const found = isStopped(facts)
    ? [stoppedFinding(facts), ...placeFindings(facts).filter(({ code }) => code.startsWith('mount'))]
    : [
        ...nameserverFindings(facts),
        ...serverFindings(facts),
        ...blockFindings(facts),
        ...jobFindings(facts),
        ...processFindings(facts),
        ...placeFindings(facts),
        ...upkeepFindings(facts),
      ];
  const findings = found.sort((a, b) => RANK[a.level] - RANK[b.level]);
  const worst = findings[0]?.level;
  return { verdict: worst === undefined || worst === 'note' ? 'healthy' : worst, findings };
}
