import { zCompact } from '../common/wire/compaction.ts';
import {
  decodeControl,
  encodeControl,
  zDrainServer,
  zEndSession,
  zHandOver,
  zHeartbeat,
  zOpenBlock,
  zPeerState,
  zPromote,
  zRegister,
  zRemoveServer,
  zReport,
  zRequestCfg,
  zServersDrained,
  zServersRemoved,
} from '../common/wire/control.ts';
import { zClearTraces, zEraseRecords } from '../common/wire/erase.ts';
import { zEndJob, zTakeJob } from '../common/wire/jobs.ts';
import { ROLES, type Role } from '../common/wire/keys.ts';
import {
  decodeBlockEntries,
  decodeLocate,
  EMPTY_BUFFER,
  encodeLocateReply,
  Op,
} from '../common/wire/messages.ts';
import type { RpcResult, RpcServer } from '../common/wire/rpc-server.ts';
import { serveJobQuestions } from './jobs/job-handlers.ts';
import type { NameServer } from './nameserver.ts';

const DATASERVERS: readonly Role[] = ['dataserver'];
const NAMESERVERS: readonly Role[] = ['nameserver'];
const DONE: RpcResult = { header: EMPTY_BUFFER };

const json = (message: object): RpcResult => ({ header: encodeControl(message) });

/** Decode, call, encode: what may be asked of a NameServer, and by whom. */
export function serve(server: RpcServer, nameserver: NameServer): void {
  const { registry, opener, leadership, removal, drains } = nameserver;
  server.handle(Op.REGISTER, DATASERVERS, async ({ header }) =>
    json(await registry.register(decodeControl(zRegister, header, 'REGISTER'))),
  );
  server.handle(Op.REPORT, DATASERVERS, async ({ header, payload }) => {
    await registry.report(decodeControl(zReport, header, 'REPORT'), decodeBlockEntries(payload));
    return DONE;
  });
  server.handle(Op.HEARTBEAT, DATASERVERS, async ({ header, payload }) => {
    const message = decodeControl(zHeartbeat, header, 'HEARTBEAT');
    return json(await registry.heartbeat(message, decodeBlockEntries(payload)));
  });
  server.handle(Op.OPEN_BLOCK, DATASERVERS, async ({ header }) =>
    json(await opener.open(decodeControl(zOpenBlock, header, 'OPEN_BLOCK'))),
  );
  // Answered when the block is queued for its seal; if that is lost, the sweep finds the block by its state.
  server.handle(Op.END_SESSION, DATASERVERS, ({ header }) => {
    nameserver.endSession(decodeControl(zEndSession, header, 'END_SESSION'));
    return DONE;
  });
  server.handle(Op.REQUEST_CFG, DATASERVERS, async ({ header }) =>
    json(await nameserver.requestConfiguration(decodeControl(zRequestCfg, header, 'REQUEST_CFG'))),
  );
  server.handle(Op.TAKE_JOB, DATASERVERS, async ({ header }) =>
    json(await nameserver.jobs.take(decodeControl(zTakeJob, header, 'TAKE_JOB'))),
  );
  server.handle(Op.END_JOB, DATASERVERS, ({ header }) => {
    nameserver.jobs.end(decodeControl(zEndJob, header, 'END_JOB'));
    return DONE;
  });
  server.handle(Op.LOCATE, ROLES, ({ header }) => {
    const reply = nameserver.locate(decodeLocate(header));
    if (reply instanceof Promise) return reply.then((late) => ({ header: encodeLocateReply(late) }));
    return { header: encodeLocateReply(reply) };
  });
  server.handle(Op.PEER_STATE, NAMESERVERS, ({ header }) =>
    json(leadership.peerState(decodeControl(zPeerState, header, 'PEER_STATE'))),
  );
  server.handle(Op.HAND_OVER, NAMESERVERS, async ({ header }) =>
    json(await leadership.handedOver(decodeControl(zHandOver, header, 'HAND_OVER'))),
  );
  server.handle(Op.PROMOTE, ['operator'], async ({ header }) =>
    json(await leadership.promote(decodeControl(zPromote, header, 'PROMOTE'))),
  );
  server.handle(Op.COMPACT, ['operator', 'dataserver'], async ({ header }) => {
    const { block, gain } = decodeControl(zCompact, header, 'COMPACT');
    return json(
      gain === 'noted'
        ? await nameserver.erasure.goOn(block)
        : await nameserver.compaction.request(block, gain),
    );
  });
  server.handle(Op.ERASE_RECORDS, ['operator'], async ({ header }) =>
    json(await nameserver.erasure.erase(decodeControl(zEraseRecords, header, 'ERASE_RECORDS'))),
  );
  server.handle(Op.CLEAR_ALL_TRACES, ['operator'], async ({ header }) =>
    json(await nameserver.erasure.clearTraces(decodeControl(zClearTraces, header, 'CLEAR_ALL_TRACES'))),
  );
  server.handle(Op.REMOVE_SERVER, ['operator'], async ({ header }) =>
    json(await removal.remove(decodeControl(zRemoveServer, header, 'REMOVE_SERVER'))),
  );
  serveJobQuestions(server, nameserver);
  server.handle(Op.SERVERS_REMOVED, NAMESERVERS, async ({ header }) => {
    await removal.learn(decodeControl(zServersRemoved, header, 'SERVERS_REMOVED').removed);
    return DONE;
  });
  server.handle(Op.DRAIN_SERVER, ['operator'], async ({ header }) =>
    json(await drains.set(decodeControl(zDrainServer, header, 'DRAIN_SERVER'))),
  );
  server.handle(Op.SERVERS_DRAINED, NAMESERVERS, async ({ header }) => {
    await drains.learn(decodeControl(zServersDrained, header, 'SERVERS_DRAINED'));
    return DONE;
  });
  server.handle(Op.CLUSTER_MAP, ROLES, () => json(nameserver.clusterMap()));
  server.handle(Op.SERVER_FIGURES, ROLES, () => ({
    header: EMPTY_BUFFER,
    payload: [encodeControl(nameserver.members.figures())],
  }));
  server.handle(Op.STATUS, ROLES, () => json(nameserver.status()));
}
