import { type Op, type OpsState, OpType } from '../../common/format/ops.ts';
import type { BlockId, Cookie, FileId, ServerId, Slot, Version } from '../../common/ids.ts';
import { NameFlag } from '../../common/wire/messages.ts';

export interface ConfigurationStory {
  readonly version: Version;
  readonly members: readonly ServerId[];
}

export interface AliasStory {
  readonly cookie: Cookie;
  readonly target: Slot;
  /** Servers that ever had it durable. */
  readonly servers: Set<ServerId>;
}

/** All operations of one block that any disk ever held durably, and which of them. */
export class OpsStory {
  readonly block: BlockId;
  readonly configurations = new Map<string, ConfigurationStory>();
  readonly aliases = new Map<FileId, AliasStory>();
  /** Slots that a PURGE_INTENT has listed, and in whose logs. */
  readonly #purged = new Map<Slot, Set<ServerId>>();
  /** By opId in hex, and by kind and name. */
  readonly #holders = new Map<string, Set<ServerId>>();

  constructor(block: BlockId) {
    this.block = block;
  }

  /** An operation is durable in the log of this server. */
  note(server: ServerId, op: Op): void {
    switch (op.type) {
      case OpType.SNAPSHOT:
        this.#noteState(server, op.state);
        return;
      case OpType.CFG:
        this.#configure(op.version, op.members);
        return;
      case OpType.PURGE_INTENT:
        for (const slot of op.slots) this.#purge(server, slot);
        return;
      case OpType.ALIAS:
        this.#alias(server, op.aliasId, op.cookie, op.target);
        this.#hold(op.opId.toString('hex'), server);
        return;
      case OpType.SEAL:
      case OpType.GEN_COMMIT:
        return;
      default:
        this.#hold(op.opId.toString('hex'), server);
        this.#hold(kindKey(op.type, op.fileId), server);
    }
  }

  holdersOfOp(opId: Buffer): ReadonlySet<ServerId> | undefined {
    return this.#holders.get(opId.toString('hex'));
  }

  holdersOfKind(type: number, fileId: FileId): ReadonlySet<ServerId> | undefined {
    return this.#holders.get(kindKey(type, fileId));
  }

  /** Some log says so, which need not have been acknowledged. */
  mayBePurged(slot: Slot): boolean {
    return this.#purged.has(slot);
  }

  /** All members of a configuration had it in their logs: no later one is without it. */
  isPurged(slot: Slot): boolean {
    const holders = this.#purged.get(slot);
    if (holders === undefined) return false;
    for (const { members } of this.configurations.values())
      if (members.every((member) => holders.has(member))) return true;
    return false;
  }

  #purge(server: ServerId, slot: Slot): void {
    const holders = this.#purged.get(slot);
    if (holders === undefined) this.#purged.set(slot, new Set([server]));
    else holders.add(server);
  }

  #noteState(server: ServerId, state: OpsState): void {
    if (state.cfg !== undefined) this.#configure(state.version, state.cfg.members);
    const { aliases, slotFlags, recentOps } = state;
    for (let i = 0; i < (aliases?.count ?? 0); i++)
      this.#alias(server, aliases!.idAt(i), aliases!.cookieAt(i), aliases!.targetAt(i));
    for (let slot = 0; slot < slotFlags.length; slot++)
      if ((slotFlags[slot]! & NameFlag.PURGED) !== 0) this.#purge(server, slot as Slot);
    for (const [opId, { type, fileId }] of recentOps ?? []) {
      this.#hold(opId, server);
      this.#hold(kindKey(type, fileId), server);
    }
  }

  #configure(version: Version, members: readonly ServerId[]): void {
    this.configurations.set(`${version.epoch} ${version.n}`, { version, members });
  }

  #alias(server: ServerId, id: FileId, cookie: Cookie, target: Slot): void {
    const known = this.aliases.get(id);
    if (known === undefined) this.aliases.set(id, { cookie, target, servers: new Set([server]) });
    else known.servers.add(server);
  }

  #hold(key: string, server: ServerId): void {
    const holders = this.#holders.get(key);
    if (holders === undefined) this.#holders.set(key, new Set([server]));
    else holders.add(server);
  }
}

const kindKey = (type: number, fileId: FileId): string => `${type} ${fileId}`;
