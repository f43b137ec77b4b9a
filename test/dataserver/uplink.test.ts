import * as assert from 'uvu/assert';
import { epochOf, type HostPort, incarnationOf, type Millis, serverId } from '../../common/ids.ts';
import { HEARTBEAT_MS, PROVISIONAL_AFTER_MS } from '../../common/limits.ts';
import {
  decodeControl,
  encodeControl,
  type Heartbeat,
  type Reign,
  type Report,
  zEmpty,
  zHeartbeat,
  zRegister,
  zReport,
} from '../../common/wire/control.ts';
import { BlockState, EMPTY_BUFFER, Op } from '../../common/wire/messages.ts';
import type { RpcRequest, RpcResult } from '../../common/wire/rpc-server.ts';
import { NameServers } from '../../dataserver/nameservers.ts';
import { Nonces } from '../../dataserver/nonces.ts';
import { PromiseKeeper } from '../../dataserver/promise.ts';
import { promiseOrder } from '../../dataserver/promise-order.ts';
import { Uplink } from '../../dataserver/uplink.ts';
import { turns } from '../kit/memory-net.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { describe, type TestContext } from '../kit/suite.ts';
import { WireWorld } from '../kit/wire-world.ts';
import { entryOf } from '../nameserver/entries.ts';
import { heartbeatOf, registerOf } from '../nameserver/messages.ts';

const BLOCK = entryOf().block;
const OTHER = entryOf({ block: 0x2_0001 }).block;
const reignOf = (epoch: number, nameserver = 0): Reign => ({ epoch: epochOf(epoch), nameserver });

/** Answers as a test says. */
class ScriptedNameServer {
  address!: HostPort;
  reign = reignOf(1);
  leader = false;
  confirmed = true;
  stale: number[] = [];
  resync = false;
  token = 100;
  registrations = 0;
  /** What registrations showed, and what they are given. */
  readonly shown: (string | undefined)[] = [];
  nonce: string | undefined;
  readonly heartbeats: Heartbeat[] = [];
  readonly reports: Report[] = [];
  /** Awaited before a heartbeat is answered. */
  gate: Promise<void> | undefined;

  async listen(world: WireWorld): Promise<void> {
    const server = await world.serve();
    this.address = server.address;
    server.handle(Op.REGISTER, ['dataserver'], ({ header }) => {
      this.registrations++;
      this.shown.push(decodeControl(zRegister, header, 'REGISTER').nonce);
      const { reign, leader, token, nonce } = this;
      return json({ reign, leader, token, members: [1], replicas: 3, minWrite: 2, nonce });
    });
    server.handle(Op.REPORT, ['dataserver'], ({ header }) => {
      this.reports.push(decodeControl(zReport, header, 'REPORT'));
      return { header: EMPTY_BUFFER };
    });
    server.handle(Op.HEARTBEAT, ['dataserver'], async ({ header }) => {
      this.heartbeats.push(decodeControl(zHeartbeat, header, 'HEARTBEAT'));
      const { reign, leader, resync, confirmed, stale, token } = this;
      this.resync = false;
      await this.gate;
      return json({ reign, leader, resync, confirmed, stale, token, members: [1] });
    });
  }
}

const json = (message: object): RpcResult => ({ header: encodeControl(message) });

interface World {
  readonly wire: WireWorld;
  readonly disk: RecordingDisk;
  readonly ns: readonly [ScriptedNameServer, ScriptedNameServer];
  readonly servers: NameServers;
  readonly promise: PromiseKeeper;
  readonly leaders: number[];
  readonly registered: number[];
  pass(ms: number): Promise<void>;
}

/** The real side of a DataServer, two NameServers that say anything. */
async function open(t: TestContext): Promise<World> {
  const wire = new WireWorld(t);
  const ns = [new ScriptedNameServer(), new ScriptedNameServer()] as const;
  ns[0].leader = true;
  const disk = new RecordingDisk();
  const promise = await PromiseKeeper.open(disk);
  const nonces = await Nonces.open(disk, wire.log);
  const peers = wire.peers('dataserver');
  const { clock, log } = wire;
  const leaders: number[] = [];
  const registered: number[] = [];
  const uplinks: Uplink[] = [];
  for (const [i, one] of ns.entries()) {
    await one.listen(wire);
    uplinks.push(
      new Uplink({
        nameserver: i,
        nonces,
        address: one.address,
        server: serverId(1),
        peers,
        clock,
        log,
        promise,
        source: {
          register: () => registerOf(1, { promise: promise.reign }),
          heartbeat: () => heartbeatOf(1),
          entries: () => [entryOf()],
          entry: () => undefined,
          dropped: (block) => entryOf({ block, state: BlockState.DROPPED }),
          openBlocks: () => [],
        },
        onRegistered: () => registered.push(i),
        onLeader: () => leaders.push(i),
        onTime: () => undefined,
        onRefused: (error) => {
          throw error;
        },
      }),
    );
  }
  const servers = new NameServers({ uplinks, peers, clock, promise });
  t.defer(async () => {
    const closing = servers.close();
    let isClosed = false;
    void closing.then(() => {
      isClosed = true;
    });
    while (!isClosed) await wire.pass(100);
  });
  servers.start();
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 20) {
      clock.advance(Math.min(20, left) as Millis);
      await turns(6);
    }
  };
  await turns(60);
  return { wire, disk, ns, servers, promise, leaders, registered, pass };
}

describe('uplinks', (test) => {
  test('both NameServers hear the same; the one that leads is promised to, and confirms at once', async (t) => {
    const { ns, servers, promise, leaders, registered } = await open(t);
    assert.equal([...registered].sort(), [0, 1]);
    for (const { registrations, reports, heartbeats } of ns) {
      assert.is(registrations, 1);
      assert.is(reports.length, 1);
      assert.is(heartbeats.length, 1, 'the first beat does not wait');
    }
    assert.equal(promise.reign, reignOf(1));
    assert.ok(servers.inContact);
    assert.ok(servers.isConfirmed(BLOCK));
    assert.equal(leaders, [0]);
  });

  test('each NameServer is shown what it left at the last registration', async (t) => {
    const { ns, pass } = await open(t);
    for (const nonce of ['aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb']) {
      ns[0].nonce = nonce;
      for (const one of ns) one.resync = true;
      await pass(2 * HEARTBEAT_MS);
    }
    ns[0].resync = true;
    await pass(2 * HEARTBEAT_MS);
    assert.equal(ns[0].shown, [undefined, undefined, 'aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb']);
    assert.equal(ns[1].shown, [undefined, undefined, undefined]);
  });

  test('a disk that takes no writes promises nothing, and goes on telling what it holds', async (t) => {
    const { disk, ns, servers, promise, pass } = await open(t);
    disk.failure = { nth: 1, code: 'READ_ONLY', kinds: ['write', 'open'], sticky: true };
    ns[0].leader = false;
    ns[1].leader = true;
    ns[1].reign = reignOf(2, 1);
    const before = ns[1].heartbeats.length;
    await pass(3 * HEARTBEAT_MS);
    assert.ok(ns[1].heartbeats.length >= before + 2);
    assert.is(ns[1].registrations, 1);
    assert.equal(promise.reign, reignOf(1));
    await pass(PROVISIONAL_AFTER_MS);
    assert.is(servers.inContact, false);
  });

  test('tokens are echoed; one of before a registration is not', async (t) => {
    const { ns, pass } = await open(t);
    const [one] = ns;
    assert.is(one.reports[0]?.echo, 100);
    one.token = 200;
    await pass(HEARTBEAT_MS);
    one.token = 300;
    await pass(HEARTBEAT_MS);
    assert.equal(
      one.heartbeats.map(({ echo }) => echo),
      [100, 100, 200],
    );
    one.resync = true;
    await pass(2 * HEARTBEAT_MS);
    assert.is(one.registrations, 2);
    assert.is(one.reports[1]?.echo, 300, 'of the registration itself');
  });

  test('contact lasts from when the question was sent, not from when it was answered', async (t) => {
    const { ns, servers, wire, pass } = await open(t);
    const [one] = ns;
    let answer: () => void = () => undefined;
    one.gate = new Promise((resolve) => {
      answer = resolve;
    });
    const before = one.heartbeats.length;
    while (one.heartbeats.length === before) await pass(20);
    const sentAt = wire.clock.monotonic();
    await pass(1900);
    one.gate = new Promise(() => undefined);
    answer();
    await turns(20);
    assert.ok(servers.inContact);
    while (servers.inContact) await pass(20);
    const lastedMs = wire.clock.monotonic() - sentAt;
    assert.ok(lastedMs <= PROVISIONAL_AFTER_MS + 20, `${lastedMs}`);
    assert.not(servers.isConfirmed(BLOCK));
  });

  test('a NameServer whose reign is over is not obeyed, is no contact, and goes on hearing', async (t) => {
    const { ns, servers, promise, pass, leaders } = await open(t);
    const [old, current] = ns;
    Object.assign(current, { leader: true, reign: reignOf(2, 1) });
    await pass(HEARTBEAT_MS);
    assert.equal(promise.reign, reignOf(2, 1));
    assert.ok(servers.isConfirmed(BLOCK));
    current.gate = new Promise(() => undefined);
    await pass(PROVISIONAL_AFTER_MS + 100);
    assert.not(servers.inContact, 'the old one still says that it leads');
    assert.not(servers.isConfirmed(BLOCK));
    assert.is(old.registrations, 1, 'it would lead well if it led again');
    assert.equal(old.heartbeats.at(-1)?.promise, reignOf(2, 1), 'and is told the truth');
    const asked = servers.callLeader(Op.CLUSTER_MAP, {}, zEmpty).catch((error: unknown) => error);
    assert.match(String(await asked), /no leading NameServer is known/);
    Object.assign(old, { reign: reignOf(3) });
    await pass(HEARTBEAT_MS);
    assert.ok(servers.isConfirmed(BLOCK));
    assert.equal(leaders, [0, 1, 0]);
  });

  test('a leader that confirms nothing is asked again soon, and ever less often', async (t) => {
    const { ns, pass } = await open(t);
    const [one] = ns;
    one.confirmed = false;
    await pass(HEARTBEAT_MS);
    const before = one.heartbeats.length;
    await pass(100 + 200 + 400 + 800 + 60);
    assert.is(one.heartbeats.length - before, 4);
    await pass(5 * HEARTBEAT_MS);
    assert.is(one.heartbeats.length - before, 9);
    one.confirmed = true;
    await pass(HEARTBEAT_MS);
    const then = one.heartbeats.length;
    await pass(3 * HEARTBEAT_MS);
    assert.is(one.heartbeats.length - then, 3);
  });

  test('what the newest answer did not confirm is not current, nor what it named stale', async (t) => {
    const { ns, servers, pass } = await open(t);
    const [one] = ns;
    one.stale = [BLOCK];
    await pass(HEARTBEAT_MS);
    assert.not(servers.isConfirmed(BLOCK));
    assert.ok(servers.isConfirmed(OTHER));
    Object.assign(one, { stale: [], confirmed: false });
    await pass(HEARTBEAT_MS);
    assert.ok(servers.inContact);
    assert.not(servers.isConfirmed(OTHER));
    one.confirmed = true;
    await pass(HEARTBEAT_MS);
    assert.ok(servers.isConfirmed(BLOCK));
    // Registered again: nothing is confirmed until the next answer to a beat.
    one.resync = true;
    while (one.resync) await pass(20);
    let release: () => void = () => undefined;
    one.gate = new Promise((resolve) => {
      release = resolve;
    });
    while (one.registrations === 1) await pass(20);
    await turns(20);
    assert.not(servers.isConfirmed(BLOCK));
    release();
    await turns(20);
    assert.ok(servers.isConfirmed(BLOCK));
  });

  test('a doubt lasts until the leader, asked later, does not share it', async (t) => {
    const { ns, servers, pass } = await open(t);
    const [one] = ns;
    let answer: () => void = () => undefined;
    one.gate = new Promise((resolve) => {
      answer = resolve;
    });
    const before = one.heartbeats.length;
    while (one.heartbeats.length === before) await pass(20);
    servers.unconfirm(BLOCK);
    assert.not(servers.isConfirmed(BLOCK));
    one.gate = undefined;
    answer();
    await turns(20);
    assert.ok(servers.isConfirmed(OTHER));
    assert.not(servers.isConfirmed(BLOCK), 'this answer was asked for before the doubt');
    await pass(HEARTBEAT_MS);
    assert.ok(servers.isConfirmed(BLOCK));
  });

  test('a PROMISE is kept, answered with what is promised, and makes the next beats come at once', async (t) => {
    const { ns, servers, promise, wire } = await open(t);
    const order = async (reign: Reign) => {
      const deps = { server: serverId(1), incarnation: incarnationOf(1), promise, nameservers: servers };
      const request = { header: encodeControl({ reign }), payload: EMPTY_BUFFER } as unknown as RpcRequest;
      return JSON.parse((await promiseOrder(deps, request)).header.toString('utf8'));
    };
    const counts = () => ns.map(({ heartbeats }) => heartbeats.length);
    const before = counts();
    const at = wire.clock.monotonic();
    Object.assign(ns[1], { leader: true, reign: reignOf(4, 1) });
    assert.equal(await order(reignOf(4, 1)), { server: 1, incarnation: 1, promise: reignOf(4, 1) });
    assert.not(servers.isConfirmed(BLOCK), 'what the old leader confirmed counts no more');
    await turns(40);
    assert.is(wire.clock.monotonic(), at);
    assert.ok(counts().every((count, i) => count > before[i]!));
    assert.ok(servers.isConfirmed(BLOCK), 'by the new leader');
    const later = counts();
    assert.equal((await order(reignOf(3))).promise, reignOf(4, 1), 'a lower one is answered, not refused');
    assert.equal((await order(reignOf(4, 1))).promise, reignOf(4, 1));
    await turns(40);
    assert.equal(counts(), later, 'nothing new: no hurry');
  });
});
