import type { JobsReply, PlanReply, SaidWork, WhyReply } from '../../common/wire/job-questions.ts';
import { columns, formatAge, formatBytes } from '../cli/columns.ts';

/** `tfs jobs`, for a person. */
export function jobsText(reply: JobsReply): string {
  const { running, parked, queues, trouble } = reply;
  const waiting = queues.reduce((sum, queue) => sum + queue.waiting, 0);
  const parts = [
    [
      `Wanted    ${reply.amounts === undefined ? 'not counted yet' : amountsText(reply.amounts)}`,
      `Jobs      ${running.length} running, ${waiting} waiting, ${parked.length} left alone for a while`,
      `Rate      ${formatRate(reply.bytesPerSecond)}${etaText(reply)}`,
      ...(reply.paused.length > 0 ? [`Paused    ${reply.paused.join(', ')} (tfs jobs resume KIND)`] : []),
      ...(trouble === undefined
        ? []
        : [`Queue     not used; last copies are made and garbage is taken out all the same: ${trouble}`]),
    ].join('\n'),
  ];
  if (running.length > 0)
    parts.push(
      columns(
        ['RUNNING', 'BLOCK', 'ON', 'SIZE', 'FOR', 'WHY'],
        running.map((job) => [...workCells(job), formatAge(job.forMs), job.reason]),
      ),
    );
  if (parked.length > 0)
    parts.push(
      columns(
        ['LEFT ALONE', 'BLOCK', 'ON', 'ATTEMPTS', 'LAST', 'BECAUSE'],
        parked.map(({ kind, block, server, count, agoMs, reason }) => [
          kind,
          String(block),
          String(server),
          String(count),
          `${formatAge(agoMs)} ago`,
          reason,
        ]),
      ),
    );
  if (queues.length > 0)
    parts.push(
      columns(
        ['QUEUE OF', 'WAITING', 'RUNNING', 'PARKED'],
        queues.map((queue) => [queue.server, queue.waiting, queue.running, queue.parked].map(String)),
      ),
    );
  return parts.join('\n\n');
}

/** `tfs plan`, for a person. */
export function planText({ work, amounts, paused }: PlanReply): string {
  if (work === undefined)
    return 'Nothing is planned yet: the NameServer that leads has not been once round its map, or has not heard of every block.';
  const parts = [`Wanted    ${amountsText(amounts)}`];
  if (paused.length > 0) parts.push(`Paused    ${paused.join(', ')}: none of it is done`);
  if (work.length > 0)
    parts.push(
      columns(
        ['WOULD', 'BLOCK', 'ON', 'SIZE', 'WHY'],
        work.map((one) => [...workCells(one), one.reason]),
      ),
    );
  return parts.join('\n\n');
}

/** `tfs why`, for a person. */
export function whyText(reply: WhyReply): string {
  const { block, state, length, deadBytes, wanted, version, generation, replicas } = reply;
  const parts = [
    [
      `Block ${block}: ${state}, ${formatBytes(length)} (${formatBytes(deadBytes)} of it deleted), generation ${generation}`,
      `${wanted} copies are wanted; configuration (${version.epoch}, ${version.n})`,
    ].join('\n'),
    columns(
      ['SERVER', 'DOMAIN', 'ITS COPY'],
      replicas.map(({ server, domain, says }) => [String(server), domain, says.join('; ')]),
    ),
  ];
  const lines = [
    ...reply.running.map(
      (job) => `${job.kind} on server ${job.server} is under way for ${formatAge(job.forMs)}: ${job.reason}`,
    ),
    ...reply.work.map((one) => `wanted: ${one.kind} on server ${one.server}: ${one.reason}`),
    ...reply.blocked.map(({ kind, why }) => `wanted, and not possible now: ${kind}: ${why}`),
    ...reply.parked.map(
      ({ kind, server, count, agoMs, reason }) =>
        `${kind} is left alone on server ${server} for a while: failed ${count} times, last ${formatAge(agoMs)} ago: ${reason}`,
    ),
  ];
  parts.push(lines.length > 0 ? lines.join('\n') : 'It needs nothing.');
  return parts.join('\n\n');
}

export const formatRate = (bytesPerSecond: number): string => `${(bytesPerSecond / 1e6).toFixed(1)} MB/s`;

export const etaText = ({
  etaMs,
  etaOfCopies,
}: {
  etaMs?: number | undefined;
  etaOfCopies: boolean;
}): string =>
  etaMs === undefined || etaMs === 0
    ? ''
    : `, ${etaOfCopies ? 'all copies made' : 'done'} in about ${formatAge(etaMs)}`;

function amountsText(amounts: PlanReply['amounts']): string {
  const all = amounts.filter(({ blocks }) => blocks > 0);
  if (all.length === 0) return 'nothing';
  return all.map(({ kind, blocks, bytes }) => `${kind}: ${blocks} blocks, ${formatBytes(bytes)}`).join('; ');
}

const workCells = ({ kind, block, server, bytes }: SaidWork): string[] => [
  kind,
  String(block),
  String(server),
  formatBytes(bytes),
];
