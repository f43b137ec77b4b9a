import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as assert from 'uvu/assert';
import { signatureOf } from '../../../../client/gateway/purge/webhook-signature.ts';
import { ROOT } from '../../../kit/run-from.ts';
import { describe } from '../../../kit/suite.ts';
import { tempDir } from '../../../kit/temp-dir.ts';

type Check = (header: string, body: Buffer, key: Buffer, nowMs?: number) => boolean;

describe('the receiver in docs/operations.md', (test) => {
  test('takes what was signed with its key a moment ago, and nothing else', async (t) => {
    const docs = readFileSync(join(ROOT, 'docs', 'operations.md'), 'utf8');
    const [, code] = /```js\n([^`]*isFromTfs(?:[^`]|`(?!``))*)```/.exec(docs)!;
    const file = join(tempDir(t), 'receiver.mjs');
    writeFileSync(file, code!);
    const { isFromTfs } = (await import(pathToFileURL(file).href)) as { isFromTfs: Check };
    const body = Buffer.from('{"names":["T19aETByJT1RCvBVdK"]}');
    const [old, fresh, other] = [1, 2, 3].map((byte) => Buffer.alloc(32, byte)) as [Buffer, Buffer, Buffer];
    const nowMs = 1_800_000_000_000;
    const header = signatureOf(body, [old, fresh], nowMs);
    assert.ok(isFromTfs(header, body, old, nowMs));
    assert.ok(isFromTfs(header, body, fresh, nowMs + 299_000));
    assert.not(isFromTfs(header, body, other, nowMs));
    assert.not(isFromTfs(header, Buffer.concat([body, Buffer.from(' ')]), old, nowMs));
    assert.not(isFromTfs(header, body, old, nowMs + 302_000));
    assert.not(isFromTfs(header.replace('t=18', 't=17'), body, old, nowMs));
    assert.not(isFromTfs(`t=${nowMs / 1000}`, body, old, nowMs));
    assert.not(isFromTfs(`t=${nowMs / 1000},v1=`, body, old, nowMs));
    assert.not(isFromTfs('', body, old, nowMs));
  });
});
