import { isTfsError } from '../../common/errors.ts';
import type { BlockId, FileId } from '../../common/ids.ts';
import { type Log, silentLog } from '../../common/log.ts';
import { BlockState, blockStateName } from '../../common/wire/messages.ts';
import type { FaultName } from '../../dataserver/block/faults.ts';
import type { Stored } from '../../dataserver/session.ts';
import type { NameServerFaultName } from '../../nameserver/faults.ts';
import { LEADER, type Life, recordOf, SealWorld } from './seal-world.ts';
import { SeededRandom } from './seeded-random.ts';

const SERVERS = [1, 2, 3];
const ALL = { offset: 0, length: 0xffff_ffff };
const CONVERGE_MS_MAX = 240_000;
const CUTS_MAX = 3;

export interface SealCampaignOptions {
  readonly seed: number;
  readonly steps: number;
  readonly faults?: readonly FaultName[];
  readonly sealFaults?: readonly NameServerFaultName[];
  readonly log?: Log;
}

export interface SealCampaignResult {
  readonly acked: number;
  readonly blocks: number;
  readonly restarts: number;
  /** Blocks that were sealed anew because two leaders had sealed them differently. */
  readonly conflicts: number;
  readonly violation: string | undefined;
}

interface Acked {
  readonly stored: Stored;
  readonly payload: Buffer;
}

class Violation extends Error {}

/** How often something happens, in a thousand steps. */
const ODDS = {
  calm: { cut: 6, kill: 3, pause: 4, elect: 4, isolate: 8, damage: 10 },
  wild: { cut: 30, kill: 20, pause: 25, elect: 10, isolate: 5, damage: 30 },
} as const;
const PATIENCE_MS = { wild: 3000, calm: 1200 } as const;
/** Servers that are away come back sooner than the one, and sometimes later than the other. */
const DEAD_MS = { wild: 120_000, calm: 8000 } as const;

type Mood = keyof typeof ODDS;

/**
 * Uploads while servers die, are stopped and come back, links break, leaders change and disks rot; then everything
 * heals, and every acknowledged picture has to be on every replica of its block, which are all sealed alike.
 */
export async function runSealCampaign(options: SealCampaignOptions): Promise<SealCampaignResult> {
  const { seed, faults = [], sealFaults = [], log = silentLog } = options;
  const mood: Mood = seed % 2 === 0 ? 'calm' : 'wild';
  const world = await SealWorld.open({
    seed,
    times: { patienceMs: PATIENCE_MS[mood], deadMs: DEAD_MS[mood] },
    primarySilentMsMax: 3000,
    delayMsMax: 30,
    faults,
    sealFaults,
    log,
  });
  const campaign = new Campaign(world, new SeededRandom(seed * 7919), mood);
  let violation: string | undefined;
  try {
    await campaign.run(options.steps);
    await campaign.heal();
    await campaign.check();
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    violation = error.message;
  }
  const { restarts, conflicts } = campaign;
  return { acked: campaign.acked.length, blocks: world.opened.length, restarts, conflicts, violation };
}

class Campaign {
  readonly acked: Acked[] = [];
  restarts = 0;
  conflicts = 0;
  readonly #world: SealWorld;
  readonly #random: SeededRandom;
  readonly #mood: Mood;
  /** What ends by itself: at which step, and how. */
  readonly #due: { at: number; act: () => Promise<void> | void }[] = [];
  /** Replicas that were damaged, `server/block`; of each block at most one. */
  readonly #damaged = new Map<BlockId, number>();
  #found: unknown;
  #step = 0;

  constructor(world: SealWorld, random: SeededRandom, mood: Mood) {
    this.#world = world;
    this.#random = random;
    this.#mood = mood;
    for (const life of world.alive) this.#slowDown(life);
  }

  async run(steps: number): Promise<void> {
    const random = this.#random;
    for (; this.#step < steps; this.#step++) {
      await this.#settleDue();
      this.#act(random.below(1000));
      if (this.#found !== undefined) throw this.#found;
      this.#countConflicts();
      const stepMs = 1 + random.below(20);
      await this.#world.pass(stepMs * (1 + random.below(3)), stepMs);
    }
  }

  /** Everything that was broken ends, and so do the sessions: what is left has to come to rest. */
  async heal(): Promise<void> {
    const world = this.#world;
    world.cuts.clear();
    for (const id of SERVERS) world.resume(id);
    for (const { act } of this.#due.splice(0)) await act();
    await world.pass(3000);
    for (const life of world.alive) {
      life.disk.onStep = undefined;
      void life.pool.close();
    }
    for (let passedMs = 0; !this.#isAtRest(); passedMs += 200) {
      if (passedMs > CONVERGE_MS_MAX)
        throw new Violation(`does not come to rest: ${this.#unrest().join('; ')}`);
      this.#countConflicts();
      await world.pass(200);
    }
  }

  async check(): Promise<void> {
    const world = this.#world;
    for (const again of [false, true]) {
      for (const { stored, payload } of this.acked)
        for (const server of stored.members) await this.#checkRead(world.life(server), stored, payload, true);
      for (const life of world.alive) {
        if (life.store.refusedCuts > 0)
          throw new Violation(`server ${life.id} was told to cut what was acknowledged`);
        // What rots where nobody else has it was not acknowledged.
        if (this.#mood === 'calm' && life.store.totals().lostRecords > 0)
          throw new Violation(`server ${life.id} has lost records`);
      }
      if (again) return;
      for (const id of SERVERS) {
        const { disk } = world.life(id);
        world.kill(id);
        await world.start(id, disk.settled());
      }
    }
  }

  #act(dice: number): void {
    const world = this.#world;
    const random = this.#random;
    const server = random.pick(SERVERS);
    const { cut, kill, pause, elect, isolate, damage } = ODDS[this.#mood];
    const happens = (odds: number): boolean => {
      dice -= odds;
      return dice < 0;
    };
    if (happens(450)) this.#put(server);
    else if (happens(50)) world.cuts.delete(random.pick([...world.cuts, '']));
    else if (happens(cut)) this.#cut();
    else if (happens(kill)) this.#kill(server);
    else if (happens(pause)) this.#pause(server);
    else if (happens(elect)) world.elect();
    else if (happens(isolate)) this.#isolate(server);
    else if (happens(damage)) this.#damage(server);
    else if (happens(80) && this.acked.length > 0) {
      const { stored, payload } = random.pick(this.acked);
      const life = world.life(random.pick(stored.members));
      // Not awaited: it may have to walk the block, which takes time.
      if (life.alive)
        this.#checkRead(life, stored, payload, false).catch((error: unknown) => {
          if (life.alive) this.#found ??= error;
        });
    }
  }

  #put(server: number): void {
    const life = this.#world.life(server);
    if (!life.alive || this.#world.paused.has(server)) return;
    const payload = this.#random.bytes(20 + this.#random.below(2500));
    life.pool.append(recordOf(this.#random, payload)).then(
      (stored) => {
        // The client of a dead server hears nothing.
        if (life.alive) this.acked.push({ stored, payload });
      },
      () => undefined,
    );
  }

  #cut(): void {
    const random = this.#random;
    const [a, b] = [random.below(4), random.below(4)];
    if (a === b || this.#world.cuts.size >= CUTS_MAX) return;
    this.#world.cuts.add(`${a}>${b}`);
    if (random.below(2) === 0) this.#world.cuts.add(`${b}>${a}`);
    if (random.below(3) === 0 && a !== LEADER && b !== LEADER)
      // Both see at once that the connection is gone.
      for (const [at, other] of [
        [a, b],
        [b, a],
      ] as const)
        if (this.#world.life(at).alive)
          this.#world.life(at).pool.peerLost({ host: 'ds', port: 1000 + other });
  }

  /** It writes on, and no NameServer hears of it. */
  #isolate(id: number): void {
    const { cuts } = this.#world;
    for (const cut of [`${id}>${LEADER}`, `${LEADER}>${id}`]) {
      cuts.add(cut);
      this.#later(400, () => void cuts.delete(cut));
    }
  }

  #kill(id: number): void {
    const world = this.#world;
    const random = this.#random;
    const { alive, disk } = world.life(id);
    // One at least goes on, so that something happens.
    if (!alive || world.alive.length === 1) return;
    const isPowerCut = random.below(2) === 0;
    const image = isPowerCut ? disk.crashPoint().image(() => random.below(2) === 0) : disk.fork();
    world.kill(id);
    this.#later(random.below(4) === 0 ? 600 : 60, async () => {
      this.restarts++;
      this.#slowDown(await world.start(id, image));
    });
  }

  #pause(id: number): void {
    const world = this.#world;
    if (!world.life(id).alive || world.paused.has(id)) return;
    world.pause(id);
    this.#later(this.#random.below(3) === 0 ? 400 : 60, () => world.resume(id));
  }

  /**
   * A bit of something that is on other disks too. Where those may be given up for dead, only of what a watermark says
   * was acknowledged: a damaged end looks like one that was never written whole.
   */
  #damage(id: number): void {
    const random = this.#random;
    const { alive, store, disk } = this.#world.life(id);
    if (!alive) return;
    const endOf = (block: BlockId): number =>
      store.info(block)![this.#mood === 'wild' ? 'length' : 'provenLength'];
    const hurt = store.blocks.filter((block) => {
      const isFree = (this.#damaged.get(block) ?? id) === id;
      return isFree && store.info(block)!.state !== BlockState.SEALED && endOf(block) > 4096;
    });
    if (hurt.length === 0) return;
    const block = random.pick(hurt);
    this.#damaged.set(block, id);
    const at = 4096 + random.below(endOf(block) - 4096);
    disk.corrupt(`blocks/${block}.0.blk`, (bytes) => {
      bytes[at]! ^= 1 << random.below(8);
    });
  }

  /** Never other bytes, and "not there" only from one that cannot know better. */
  async #checkRead(
    life: Life,
    { block, slot, cookie }: Stored,
    payload: Buffer,
    isEnd: boolean,
  ): Promise<void> {
    const where = `slot ${slot} of block ${block} on server ${life.id}`;
    try {
      const found = await life.store.read(block, slot as number as FileId, cookie, ALL, false);
      if (!found.payload.equals(payload)) throw new Violation(`${where} reads as other bytes`);
    } catch (error) {
      if (!isTfsError(error)) throw error;
      if (isTfsError(error, 'NOT_FOUND')) throw new Violation(`${where} was acknowledged and is gone`);
      const isDamaged = this.#damaged.get(block) === life.id && isTfsError(error, 'CORRUPT');
      if (isEnd && !isDamaged) throw new Violation(`${where}: ${String(error)}`);
    }
  }

  #isAtRest(): boolean {
    return this.#unrest().length === 0;
  }

  #unrest(): string[] {
    const world = this.#world;
    const unrest: string[] = [];
    for (const { block } of world.opened) {
      const infos = world.alive.flatMap(({ id, store }) => {
        const info = store.info(block);
        return info === undefined ? [] : [{ id, info }];
      });
      const seals = new Set(infos.map(({ info }) => info.seal?.digest.toString('hex')));
      if (seals.size > 1 || seals.has(undefined))
        unrest.push(
          `block ${block}: ${infos.map(({ id, info }) => `${id} ${blockStateName(info.state)} ${info.length}`)}`,
        );
    }
    return unrest;
  }

  #countConflicts(): void {
    const { map } = this.#world.leader;
    for (const block of map.unsettled)
      if (map.facts(block)?.replicas.some(({ sealedAt }) => sealedAt !== undefined)) this.conflicts++;
  }

  #later(stepsMax: number, act: () => Promise<void> | void): void {
    this.#due.push({ at: this.#step + 1 + this.#random.below(stepsMax), act });
  }

  async #settleDue(): Promise<void> {
    for (const due of [...this.#due]) {
      if (due.at > this.#step) continue;
      this.#due.splice(this.#due.indexOf(due), 1);
      await due.act();
    }
  }

  /** Every change takes a moment, so that a crash finds some of them half done. */
  #slowDown(life: Life): void {
    const { clock } = this.#world;
    life.disk.onStep = () => clock.sleep(this.#random.below(4));
  }
}
