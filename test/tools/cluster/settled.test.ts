import * as assert from 'uvu/assert';
import type { ClusterMap, ServerInfo } from '../../../common/wire/control.ts';
import { type Snapshot, type Step, whyNotBegun, whyNotSettled } from '../../../tools/cluster/settled.ts';
import { describe } from '../../kit/suite.ts';
import { healthy, map, nameservers, server, silentNameServer, withProcess } from '../doctor/seen.ts';

interface Seen {
  readonly map?: ClusterMap;
  readonly standby?: Partial<ClusterMap>;
  readonly processes?: Snapshot['processes'];
}

const snapshot = ({ map: seen = map(), standby, processes = healthy().processes }: Seen = {}): Snapshot => ({
  nameservers: nameservers(seen, standby),
  processes,
});
const blocks = (figures: Partial<ClusterMap['blocks']>, more: Partial<ClusterMap> = {}): Seen => ({
  map: map({ ...more, blocks: figures }),
  processes: newProcess,
});
const newProcess = withProcess('dataserver', 2, { pid: 4711 });
const second = (overrides: Partial<ServerInfo>): ServerInfo =>
  server(2, { incarnation: 2 as ServerInfo['incarnation'], ...overrides });
const servers = (overrides: Partial<ServerInfo> = {}) => [server(1), second(overrides), server(3)];

/** DataServer 2 has been replaced; what is seen before and now, and where it is not as it should be. */
function why(now: Seen, before: Seen = {}, step: Partial<Step> = {}): string {
  const seen = { processes: newProcess, ...now, map: now.map ?? map({ servers: servers() }) };
  const whole: Step = {
    name: 'dataserver-2',
    before: snapshot(before),
    now: snapshot(seen),
    healthyForMs: 5_000,
    ...step,
  };
  return whyNotSettled(whole) ?? 'settled';
}

describe('reload: the next one', (test) => {
  test('waits for a new process that serves', () => {
    assert.is(why({}), 'settled');
    assert.match(why({ processes: healthy().processes }), 'dataserver 2 still is process 1002');
    const starting = withProcess('dataserver', 2, { pid: 4711, healthy: false, state: 'starting' });
    assert.match(why({ processes: starting }), 'dataserver 2 is starting');
    const gateways = snapshot({ processes: withProcess('gateway', 0, { pid: 4711 }) });
    assert.match(why({}, {}, { name: 'gateway', now: gateways }), 'gateway 1 still is process');
  });

  test('waits for a DataServer to be a member again: heard in its new life, trusted, writing', () => {
    const seen = (overrides: Partial<ServerInfo>) => why({ map: map({ servers: servers(overrides) }) });
    assert.match(seen({ state: 'down' }), 'has not heard DataServer 2');
    assert.match(seen({ incarnation: server(2).incarnation }), 'has not heard DataServer 2');
    assert.match(seen({ leaving: true }), 'has not heard DataServer 2');
    assert.match(seen({ openBlocks: 0 }), 'has not opened a block');
    const wary = [server(1, { suspects: [server(2).id] }), second({}), server(3)];
    assert.match(why({ map: map({ servers: wary }) }), 'DataServer 1 does not place anything on 2');
    const full = { io: { healthy: true, readOnly: true, probeMs: 1 }, openBlocks: 0 };
    assert.is(seen(full), 'settled', 'a disk that takes no writes opens none');
  });

  test('waits for both NameServers to know every block, as far as they did before', () => {
    const missing = [server(3).id];
    assert.match(why({ standby: { missing } }), 'NameServer 1 has not heard of all blocks of DataServer 3');
    assert.is(why({ standby: { missing } }, { standby: { missing } }), 'settled');
    const one = [nameservers(map({ servers: servers() }))[0]!, silentNameServer(1)];
    const now = { processes: newProcess, nameservers: one };
    assert.match(why({}, {}, { now }), 'NameServer 1 does not answer');
    const before = { ...snapshot(), nameservers: [snapshot().nameservers[0]!, silentNameServer(1)] };
    assert.is(why({}, {}, { now, before }), 'settled', 'it did not before');
    assert.match(why({ map: map({ leader: false }) }), 'no NameServer leads');
  });

  test('waits until no block has fewer good copies than before', () => {
    const more = { servers: servers() };
    const seen = (figures: Partial<ClusterMap['blocks']>, before: Seen = {}) =>
      why(blocks(figures, more), before);
    assert.match(seen({ byCopies: [0, 0, 1, 19] }), '1 blocks have lost a copy');
    assert.match(seen({ byCopies: [1, 0, 0, 19] }), 'have lost a copy');
    assert.is(seen({ byCopies: [0, 0, 4, 20] }), 'settled', 'new blocks with fewer');
    assert.is(seen({ byCopies: [0, 0, 0, 17] }), 'settled', 'blocks that held nothing are gone');
    assert.is(
      seen({ byCopies: [0, 0, 1, 19] }, { map: map({ blocks: { byCopies: [0, 0, 1, 19] } }) }),
      'settled',
    );
    assert.match(seen({ absent: 1 }), 'members of blocks without a good copy');
    assert.match(seen({ stale: 2 }), '2 copies that are not up to date (0 before)');
    assert.match(seen({ awaitingSeal: 1 }), 'wait for their seal');
    assert.match(seen({ suspect: 1 }), 'damaged');
    assert.is(seen({ awaitingSeal: 1 }, { map: map({ blocks: { awaitingSeal: 1 } }) }), 'settled');
  });

  test('takes no count that began before the process was back', () => {
    const counted = (countedAgoMs: number) => blocks({ countedAgoMs }, { servers: servers() });
    assert.match(why(counted(-1)), 'being counted');
    assert.match(why(counted(5_000)), 'being counted');
    assert.is(why(counted(4_999)), 'settled');
    assert.match(why(counted(0), {}, { healthyForMs: undefined }), 'being counted');
  });
});

describe('reload: a DataServer', (test) => {
  const begun = (seen: Seen, name = 'dataserver-2') => whyNotBegun(name, snapshot(seen)) ?? 'begun';

  test('is not taken away where another one is missed already', () => {
    assert.is(begun({}), 'begun');
    const down = { map: map({ servers: [server(1), server(2), server(3, { state: 'down' })] }) };
    assert.match(begun(down), 'DataServer 3 is down');
    assert.is(begun(down, 'dataserver-3'), 'begun', 'it is the one that is missed');
    assert.is(begun(down, 'gateway'), 'begun');
    assert.match(begun({ map: map({ blocks: { byCopies: [0, 2, 0, 18] } }) }), '2 blocks have one good copy');
    const lost = { map: map({ blocks: { byCopies: [1, 0, 0, 19], suspect: 1 } }) };
    assert.is(begun(lost), 'begun', 'a damaged block does not stop every reload for ever');
    const single = { map: map({ servers: [server(2)], replicas: 1, blocks: { byCopies: [0, 20] } }) };
    assert.is(begun(single), 'begun');
  });
});
