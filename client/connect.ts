import type { Config } from '../common/config.ts';
import type { Log } from '../common/log.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Net } from '../common/seams/net.ts';
import type { Random } from '../common/seams/random.ts';
import { type ExportedRole, Keyring } from '../common/wire/keys.ts';
import { Peers } from '../common/wire/peers.ts';
import { type ClientEvents, TfsClient } from './client.ts';
import type { ReadPolicy } from './reader.ts';

export interface ConnectOptions {
  readonly config: Pick<Config, 'cluster' | 'nameservers'>;
  readonly role: ExportedRole;
  /** What this process calls itself to the servers. */
  readonly id: string;
  readonly net: Net;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** `available` when absent. */
  readonly reads?: ReadPolicy;
  readonly events?: Partial<ClientEvents>;
}

export interface Connected {
  readonly client: TfsClient;
  readonly peers: Peers;
  /** Ends the client, then its connections. */
  close(): Promise<void>;
}

/** A client of the cluster that a configuration describes. Nothing is dialled before it is needed. */
export async function connectClient(options: ConnectOptions): Promise<Connected> {
  const { config, role, id, net, clock, random, log, reads, events } = options;
  const keyring = Keyring.ofExport(role);
  const peers = Peers.open({ net, clock, random, keyring, role: 'gateway', id });
  const client = await TfsClient.open({
    peers,
    nameservers: config.nameservers.map(({ host, port }) => ({ host, port })),
    rendezvousKey: keyring.rendezvousKey,
    clusterDigit: config.cluster.digit,
    clusterUuid: config.cluster.uuid,
    clock,
    random,
    log,
    ...(reads === undefined ? {} : { reads }),
    ...(events === undefined ? {} : { events }),
  });
  return {
    client,
    peers,
    close: async () => {
      await client.close();
      await peers.close();
    },
  };
}
