import { type GenerationFacts, type Op, OpType, type SealFacts } from '../../common/format/ops.ts';
import type { ServerId } from '../../common/ids.ts';
import type { BlockStory } from './block-story.ts';
import type { AckSight } from './check-acks.ts';
import { whyNotGeneration } from './generation-image.ts';
import type { MountLook } from './mount-look.ts';
import { Violation } from './observed.ts';
import type { Observer } from './observer.ts';

/**
 * Operations that have just become durable in a log: a SEAL is of what was stored, and a GEN_COMMIT of a file with everything
 * that lives.
 *
 * @throws Violation I5, I14
 */
export function checkNewOps(
  { sight }: Pick<Observer, 'sight'>,
  mount: MountLook,
  story: BlockStory,
  fresh: readonly Op[],
): void {
  const { id } = mount.server;
  for (const op of fresh) {
    const facts = op.type === OpType.SNAPSHOT ? op.state : undefined;
    const seal = op.type === OpType.SEAL ? op : facts?.seal;
    const generation = op.type === OpType.GEN_COMMIT ? op : facts?.generation;
    if (seal !== undefined) checkSeal(story, id, seal, sight);
    if (generation !== undefined) checkGeneration(mount, story, generation);
  }
}

function checkSeal(story: BlockStory, server: ServerId, seal: SealFacts, sight: AckSight): void {
  const { block, ackedLength, sealed, superblock } = story;
  const where = { server, block };
  const { length, digest, complete, lost } = seal;
  if (
    length < ackedLength &&
    !superblock.members.some((member) => sight.isUnsure(member.id, story, ackedLength))
  )
    throw new Violation('I5', where, `sealed at ${length}, and ${ackedLength} bytes were acknowledged`);
  // With records lost, and found again, one that was complete is made once more.
  if (complete !== true || lost !== undefined) return;
  if (sealed !== undefined) {
    if (sealed.length === length && sealed.digest.equals(digest)) return;
    const other = `at ${sealed.length} with ${hex(sealed.digest)} on server ${sealed.server}`;
    throw new Violation('I5', where, `completely sealed at ${length} with ${hex(digest)}, and ${other}`);
  }
  const own = story.digestAt(length);
  if (own?.equals(digest) !== true)
    throw new Violation(
      'I5',
      where,
      `sealed at ${length} with ${hex(digest)}; what was stored is ${own ? hex(own) : `no record's end`}`,
    );
  story.sealed = { length, digest: Buffer.from(digest), server };
}

function checkGeneration(mount: MountLook, story: BlockStory, facts: GenerationFacts): void {
  const { block } = story;
  const key = `${facts.generation} ${facts.epoch}`;
  // A log that is written anew says it once more.
  if (mount.generations.get(block) === key) return;
  mount.generations.set(block, key);
  const why = whyNotGeneration(mount, story, facts);
  if (why !== undefined)
    throw new Violation(
      'I14',
      { server: mount.server.id, block },
      `generation ${facts.generation} is committed, and ${why}`,
    );
  story.compactedSlots = Math.max(story.compactedSlots, facts.slots);
}

const hex = (digest: Buffer): string => digest.toString('hex', 0, 4);
