import { epochOf, type HostPort, incarnationOf, serverId } from '../../common/ids.ts';
import type { Heartbeat, Register, Reign } from '../../common/wire/control.ts';

export const UUID = '00112233445566778899aabbccddeeff';
export const SPACE = { totalBytes: 1e9, freeBytes: 5e8, usedBytes: 5e8 };
export const IO: Heartbeat['io'] = { healthy: true, readOnly: false, probeMs: 1 };

export const reignOf = (epoch: number, nameserver = 0): Reign => ({ epoch: epochOf(epoch), nameserver });

export const addressOf = (server: number): HostPort => ({ host: '10.0.0.1', port: 7520 + 2 * server });

export function registerOf(
  server: number,
  overrides: Partial<Omit<Register, 'server' | 'incarnation' | 'knownMembers'>> & {
    readonly incarnation?: number;
    readonly knownMembers?: readonly number[];
  } = {},
): Register {
  const { incarnation = 1, knownMembers = [server], ...rest } = overrides;
  return {
    clusterUuid: UUID,
    server: serverId(server),
    incarnation: incarnationOf(incarnation),
    address: addressOf(server),
    adminPort: addressOf(server).port + 1,
    pid: 1000 + server,
    mount: `/mnt/m${server}`,
    domain: `d${server}`,
    capacityBytes: 1e9,
    blockBytes: 1 << 20,
    space: SPACE,
    promise: reignOf(0),
    knownMembers: knownMembers.map(serverId),
    removedMembers: [],
    highestIds: [],
    ...rest,
  };
}

export function heartbeatOf(
  server: number,
  overrides: Partial<Omit<Heartbeat, 'server' | 'incarnation'>> & { readonly incarnation?: number } = {},
): Heartbeat {
  const { incarnation = 1, ...rest } = overrides;
  return {
    server: serverId(server),
    incarnation: incarnationOf(incarnation),
    promise: reignOf(1),
    sequence: 1,
    space: SPACE,
    io: IO,
    suspects: [],
    openBlocks: 0,
    blocks: 0,
    files: 0,
    aliases: 0,
    ...rest,
  };
}
