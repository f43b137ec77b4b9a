import { decodeControl, encodeControl } from '../../common/wire/control.ts';
import { zAskJobs, zAskPlan, zAskWhy, zPauseJobs } from '../../common/wire/job-questions.ts';
import type { Role } from '../../common/wire/keys.ts';
import { Op } from '../../common/wire/messages.ts';
import type { RpcServer } from '../../common/wire/rpc-server.ts';
import type { NameServer } from '../nameserver.ts';

const OPERATOR: readonly Role[] = ['operator'];

/** What an operator asks about jobs, of the leader; what he pauses, he tells both. */
export function serveJobQuestions(server: RpcServer, { jobs, leadership }: NameServer): void {
  server.handle(Op.JOBS, OPERATOR, async ({ header }) => {
    leadership.require();
    return { header: encodeControl(await jobs.answers.jobs(decodeControl(zAskJobs, header, 'JOBS').max)) };
  });
  server.handle(Op.PLAN, OPERATOR, ({ header }) => {
    leadership.require();
    return { header: encodeControl(jobs.answers.plan(decodeControl(zAskPlan, header, 'PLAN').max)) };
  });
  server.handle(Op.WHY, OPERATOR, ({ header }) => {
    leadership.require();
    return { header: encodeControl(jobs.answers.why(decodeControl(zAskWhy, header, 'WHY').block)) };
  });
  server.handle(Op.PAUSE_JOBS, OPERATOR, async ({ header }) => {
    const { kind, paused } = decodeControl(zPauseJobs, header, 'PAUSE_JOBS');
    await jobs.pauses.set(kind, paused);
    return { header: encodeControl({ paused: jobs.pauses.all }) };
  });
}
