import type { HostPort } from '../common/ids.ts';

export interface CallReply {
  readonly header: Buffer;
  readonly payload: Buffer;
}

/** What a client needs of the wire: one call to one server. `Peers` is the production one. */
export interface Caller {
  /** Rejects with the server's TfsError, or CONNECTION_LOST, DEADLINE or CLOSED. */
  call(
    address: HostPort,
    op: number,
    header: Buffer,
    payload?: readonly Buffer[],
    deadlineMs?: number,
  ): CallReply | Promise<CallReply>;
}
