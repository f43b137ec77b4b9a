import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { Decoders, type DecodersOptions } from '../../../../client/gateway/images/decoders.ts';
import { PLAIN, type Rendition } from '../../../../client/gateway/images/rendition.ts';
import { isTfsError } from '../../../../common/errors.ts';
import { silentLog } from '../../../../common/log.ts';
import { childPids } from '../../../../tools/bench/proc.ts';
import { describe, type TestContext } from '../../../kit/suite.ts';

const SMALL: Rendition = { ...PLAIN, width: 40, height: 40, format: 'jpg' };
const GIB = 2 ** 30;

function open(t: TestContext, changed: Partial<DecodersOptions> = {}): Decoders {
  const decoders = new Decoders({
    children: 1,
    decodeMsMax: 30_000,
    memoryBytesMax: GIB,
    waitingMegapixelsMax: 100,
    limits: { pixelsMax: 50e6, framesMax: 100, bytesMax: 20e6, keepCopyright: false },
    log: silentLog,
    ...changed,
  });
  t.defer(() => decoders.close());
  return decoders;
}

/** Processes of decoders that this process has. */
const decodersOf = (): number[] =>
  readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .map(Number)
    .filter((pid) => procOf(pid, 'cmdline').includes('tinypool'));

/** Empty for a process that is gone. */
const procOf = (pid: number, what: string): string => {
  try {
    return readFileSync(`/proc/${pid}/${what}`, 'utf8');
  } catch {
    return '';
  }
};

const ticksOf = (pid: number): number => {
  const fields = procOf(pid, 'stat').split(') ')[1]?.split(' ') ?? [];
  return Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
};

/** One that was at work before may still be on its way out. @returns the first that takes 50 ms of a core */
async function untilAtWork(): Promise<number> {
  const before = new Map<number, number>();
  for (;;) {
    for (const pid of decodersOf()) {
      const ticks = ticksOf(pid);
      if (ticks >= (before.get(pid) ?? Number.POSITIVE_INFINITY) + 5) return pid;
      if (!before.has(pid)) before.set(pid, ticks);
    }
    await sleep(5);
  }
}

const flat = (width: number, height: number): Promise<Buffer> =>
  sharp({ create: { width, height, channels: 3, background: '#336699' } })
    .png()
    .toBuffer();

/** Takes its time. */
const noise = (side: number): Promise<Buffer> =>
  sharp(randomBytes(side * side * 3), { raw: { width: side, height: side, channels: 3 } })
    .jpeg()
    .toBuffer();

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'made',
    (error: unknown) => (isTfsError(error) ? error.code : String(error)),
  );

describe('decoders in processes of their own', (test) => {
  test('make renditions, and say what is wrong as it is', async (t) => {
    const decoders = open(t);
    const original = await flat(400, 200);
    const made = await decoders.make({ original, rendition: SMALL, pixels: 80_000 });
    assert.equal([made.format, made.width, made.height], ['jpg', 40, 20]);
    assert.ok(Buffer.isBuffer(made.bytes));
    assert.is((await sharp(made.bytes).metadata()).format, 'jpeg');
    const half = original.subarray(0, original.length / 2);
    assert.is(
      await codeOf(decoders.make({ original: half, rendition: SMALL, pixels: 80_000 })),
      'UNDECODABLE',
    );
    const text = Buffer.from('no picture at all');
    assert.is(
      await codeOf(decoders.make({ original: text, rendition: SMALL, pixels: undefined })),
      'UNDECODABLE',
    );
    const giant = await flat(9000, 9000);
    assert.is(
      await codeOf(decoders.make({ original: giant, rendition: SMALL, pixels: 1 })),
      'TOO_MANY_PIXELS',
    );
    assert.equal([decoders.stats.made, decoders.stats.failed, decoders.stats.crashed], [1, 3, 0]);
  });

  test('no loader is there for SVG and other languages', async (t) => {
    const decoders = open(t);
    const svg = Buffer.from(
      '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><image href="file:///etc/passwd"/></svg>',
    );
    const ppm = Buffer.from('P3 1 1 255 255 0 0\n');
    for (const original of [svg, ppm])
      assert.is(await codeOf(decoders.make({ original, rendition: SMALL, pixels: 100 })), 'UNDECODABLE');
  });

  test('all of its threads come after those that serve pictures', async (t) => {
    const decoders = open(t);
    const original = await flat(100, 100);
    assert.is(await codeOf(decoders.make({ original, rendition: SMALL, pixels: 1e4 })), 'made');
    const children = childPids(process.pid).filter((pid) =>
      readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('tinypool'),
    );
    assert.is(children.length, 1);
    const threads = readdirSync(`/proc/${children[0]}/task`).map(Number);
    assert.ok(threads.length > 4);
    for (const thread of threads) assert.ok(getPriority(thread) > getPriority(), `thread ${thread}`);
  });

  test('one that takes too long ends with its process, and the next picture is made', async (t) => {
    const decoders = open(t, { decodeMsMax: 3_000 });
    const original = await flat(100, 100);
    while ((await codeOf(decoders.make({ original, rendition: SMALL, pixels: 1e4 }))) !== 'made');
    const slow = await noise(5000);
    const avif: Rendition = { ...PLAIN, format: 'avif', quality: 95 };
    // On a busy machine it may be the machine's fault.
    const code = await codeOf(decoders.make({ original: slow, rendition: avif, pixels: 25e6 }));
    assert.ok(code === 'UNDECODABLE' || code === 'OVERLOADED', code);
    assert.ok(decoders.stats.overdue >= 1);
    while ((await codeOf(decoders.make({ original, rendition: SMALL, pixels: 1e4 }))) !== 'made');
  });

  test('one that takes too much memory ends with its process, and the next picture is made', async (t) => {
    const decoders = open(t, { memoryBytesMax: 2 ** 20 });
    const slow = await noise(1500);
    const avif: Rendition = { ...PLAIN, format: 'avif' };
    assert.is(await codeOf(decoders.make({ original: slow, rendition: avif, pixels: 9e6 })), 'UNDECODABLE');
    assert.is(decoders.stats.crashed, 2, 'it was tried twice');
    assert.is(decoders.stats.failed, 1);
    const roomy = open(t);
    assert.is(await codeOf(roomy.make({ original: slow, rendition: SMALL, pixels: 9e6 })), 'made');
  });

  test('one that is killed from outside is not the fault of its picture', async (t) => {
    const decoders = open(t);
    const small = await flat(100, 100);
    assert.is(await codeOf(decoders.make({ original: small, rendition: SMALL, pixels: 1e4 })), 'made');
    const slow = await noise(3000);
    const avif: Rendition = { ...PLAIN, width: 1500, format: 'avif' };
    const asked = codeOf(decoders.make({ original: slow, rendition: avif, pixels: 9e6 }));
    await sleep(300);
    const [decoder] = decodersOf();
    process.kill(decoder!, 'SIGKILL');
    assert.is(await asked, 'made');
    assert.is(decoders.stats.crashed, 1);
    assert.is(decoders.stats.failed, 0);
  });

  test('one that gets no time is not the fault of its picture; one that hangs altogether is given up', async (t) => {
    const decoders = open(t, { decodeMsMax: 2_000 });
    const small = await flat(100, 100);
    while ((await codeOf(decoders.make({ original: small, rendition: SMALL, pixels: 1e4 }))) !== 'made');
    const slow = await noise(3000);
    const avif: Rendition = { ...PLAIN, format: 'avif', quality: 95 };
    // Woken after its time is over, it sees that it had next to none of it.
    const starved = codeOf(decoders.make({ original: slow, rendition: avif, pixels: 9e6 }));
    const first = await untilAtWork();
    process.kill(first, 'SIGSTOP');
    await sleep(2_200);
    process.kill(first, 'SIGCONT');
    assert.is(await starved, 'OVERLOADED');
    while ((await codeOf(decoders.make({ original: small, rendition: SMALL, pixels: 1e4 }))) !== 'made');
    const hung = codeOf(decoders.make({ original: slow, rendition: avif, pixels: 9e6 }));
    const second = await untilAtWork();
    process.kill(second, 'SIGSTOP');
    assert.is(await hung, 'UNDECODABLE');
    while ((await codeOf(decoders.make({ original: small, rendition: SMALL, pixels: 1e4 }))) !== 'made');
  });

  test('some wait, in order; what is beyond the bound is refused at once and costs nothing', async (t) => {
    const decoders = open(t, { waitingMegapixelsMax: 2 });
    const original = await flat(1000, 1000);
    const ask = { original, rendition: SMALL, pixels: 1e6 };
    const order: number[] = [];
    const asked = Array.from({ length: 6 }, (_, i) =>
      codeOf(decoders.make(ask)).then((code) => {
        if (code === 'made') order.push(i);
        return code;
      }),
    );
    assert.equal([decoders.running, decoders.waiting], [1, 2]);
    assert.equal(await Promise.all(asked), [
      'made',
      'made',
      'made',
      'OVERLOADED',
      'OVERLOADED',
      'OVERLOADED',
    ]);
    assert.equal(order, [0, 1, 2]);
    assert.equal([decoders.running, decoders.waiting], [0, 0]);
    assert.is(await codeOf(decoders.make(ask)), 'made');
  });

  test('when it closes, what waits and runs is answered', async (t) => {
    const decoders = open(t);
    const original = await flat(1000, 1000);
    const asked = Array.from({ length: 3 }, () =>
      codeOf(decoders.make({ original, rendition: SMALL, pixels: 1e6 })),
    );
    await decoders.close();
    const [first, ...others] = await Promise.all(asked);
    assert.ok(first === 'CLOSED' || first === 'made', 'it was being made');
    assert.equal(others, ['CLOSED', 'CLOSED']);
  });
}, 60_000);
