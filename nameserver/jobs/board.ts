import { hash, timingSafeEqual } from 'node:crypto';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { KoaAdapter } from '@bull-board/koa';
import type { Queue } from 'bullmq';
import type { Context, Middleware } from 'koa';
import { TfsError } from '../../common/errors.ts';

export interface JobBoardDeps {
  /** The queues that there are now; none while Redis does not answer. */
  readonly queues: () => readonly Queue[];
  /** The token that lets somebody write lets him look. */
  readonly token: string;
}

export const BOARD_PATH = '/jobs';

/**
 * The board of the queue library, to look at jobs in a browser, below {@link BOARD_PATH}: behind the token, as a Bearer or
 * as the password of any user. It changes nothing: a job is a hint, and to stop work is `tfs jobs pause`.
 */
export function jobBoard({ queues, token }: JobBoardDeps): Middleware[] {
  const serverAdapter = new KoaAdapter();
  serverAdapter.setBasePath(BOARD_PATH);
  const board = createBullBoard({ queues: [], serverAdapter });
  let shown: readonly Queue[] = [];
  const known = hash('sha256', token, 'buffer');
  const gate: Middleware = async (ctx, next) => {
    if (ctx.path !== BOARD_PATH && !ctx.path.startsWith(`${BOARD_PATH}/`)) return next();
    requireToken(ctx, known);
    const now = queues();
    if (now.length === 0)
      throw new TfsError('UNAVAILABLE', 'Redis does not answer: there is no queue to show', {
        retryAfterMs: 1000,
      });
    if (now.length !== shown.length || now.some((queue, i) => queue !== shown[i])) {
      board.replaceQueues(now.map((queue) => new BullMQAdapter(queue, { readOnlyMode: true })));
      shown = now;
    }
    return next();
  };
  return [gate, serverAdapter.registerPlugin()];
}

/** @throws TfsError UNAUTHORIZED */
function requireToken(ctx: Context, known: Buffer): void {
  const [scheme = '', credentials = ''] = (ctx.get('authorization') || '').split(/ +/);
  const given =
    scheme.toLowerCase() === 'basic'
      ? Buffer.from(credentials, 'base64')
          .toString('utf8')
          .replace(/^[^:]*:/, '')
      : credentials;
  // Comparing digests tells neither the token's length nor how much of it matched.
  if (timingSafeEqual(hash('sha256', given, 'buffer'), known)) return;
  ctx.set('WWW-Authenticate', 'Basic realm="jobs", charset="UTF-8"');
  throw new TfsError(
    'UNAUTHORIZED',
    'this needs the token of the cluster, as "Authorization: Bearer TOKEN" or as the password of any user',
  );
}
