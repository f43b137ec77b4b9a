import * as assert from 'uvu/assert';
import { z } from 'zod';
import type { Config } from '../../../common/config.ts';
import { type ErrorCode, isTfsError, TfsError } from '../../../common/errors.ts';
import type { Peers } from '../../../common/wire/peers.ts';
import { askLeader } from '../../../tools/cli/leader.ts';
import { describe } from '../../kit/suite.ts';

const question = { op: 1, message: {}, schema: z.object({}) };

/** What somebody is told when the two NameServers answer so; an answer of undefined is a good one. */
async function told(...answers: (ErrorCode | undefined)[]): Promise<string | undefined> {
  const config = { nameservers: answers.map((_, port) => ({ host: 'h', port })) } as unknown as Config;
  const peers = {
    callControl: async ({ port }: { port: number }) => {
      const code = answers[port];
      if (code !== undefined) throw new TfsError(code, `NameServer ${port}`);
      return { message: {} };
    },
  } as unknown as Peers;
  try {
    await askLeader(peers, config, question);
    return undefined;
  } catch (error) {
    return isTfsError(error) ? `${error.code} of ${error.message}` : String(error);
  }
}

describe('asking the NameServer that leads', (test) => {
  test('one that does not lead is passed over', async () => {
    assert.is(await told('NOT_LEADER', undefined), undefined);
    assert.is(await told(undefined, 'NOT_LEADER'), undefined);
  });

  test('why the leader cannot do it is told, and not that the other one does not lead', async () => {
    assert.is(await told('UNAVAILABLE', 'NOT_LEADER'), 'UNAVAILABLE of NameServer 0');
    assert.is(await told('NOT_LEADER', 'UNAVAILABLE'), 'UNAVAILABLE of NameServer 1');
    assert.is(await told('CONFLICT', undefined), 'CONFLICT of NameServer 0');
    assert.is(await told('NOT_LEADER', 'NOT_LEADER'), 'NOT_LEADER of NameServer 0');
  });
});
