import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { CHROMIUM_PACKAGES, missingPackages, NGINX_PACKAGES } from '../../kit/debian-package.ts';
import { Front } from '../../kit/front.ts';
import { freePorts } from '../../kit/ports.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';
import { cacheStatus, Scene } from './scene.ts';

/** What the page has, of which nothing else here knows. */
interface Drawing {
  drawImage(image: unknown, x: number, y: number, width: number, height: number): void;
  getImageData(x: number, y: number, width: number, height: number): { readonly data: Uint8ClampedArray };
}
declare const document: {
  createElement(kind: 'canvas'): { width: number; height: number; getContext(kind: '2d'): Drawing };
};

const missing =
  process.env['TFS_TEST_BROWSER'] === '0'
    ? 'is not wanted: TFS_TEST_BROWSER=0'
    : missingPackages([...CHROMIUM_PACKAGES, ...NGINX_PACKAGES]);

/** A landscape whose arrow, sky and sun say which way is up. */
const LANDSCAPE = Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="1600" height="1000">
  <rect width="1600" height="1000" fill="#8cc8f0"/><circle cx="1300" cy="180" r="110" fill="#ffd23c"/>
  <path d="M0 640 L420 260 L760 600 L1050 330 L1600 700 V1000 H0 Z" fill="#5a7a64"/>
  <path d="M0 720 Q400 640 800 740 T1600 720 V1000 H0 Z" fill="#3c9646"/>
  <path d="M800 120 L920 320 H850 V620 H750 V320 H680 Z" fill="#dc2828"/></svg>`);

/** Stored as a camera that was held sideways stores it: the pixels lie on their side, and EXIF says how to turn them. */
async function sideways(): Promise<Buffer> {
  const lying = await sharp(LANDSCAPE).rotate(270).png().toBuffer();
  return sharp(lying).jpeg({ quality: 90 }).withMetadata({ orientation: 6 }).toBuffer();
}

const page = (
  images: string,
  name: string,
): string => `<!doctype html><meta charset="utf-8"><title>pictures</title>
<style>body{margin:16px;font:14px sans-serif;display:flex;flex-wrap:wrap;align-items:flex-start;gap:16px;background:#eee}
img{display:block;max-width:100%}</style>
<picture id="best"><source type="image/avif" srcset="${images}/${name}?w=320&amp;fm=avif 320w, ${images}/${name}?w=640&amp;fm=avif 640w" sizes="300px">
  <source type="image/webp" srcset="${images}/${name}?w=320&amp;fm=webp"><img src="${images}/${name}.jpg_310x310.jpg" width="300"></picture>
<picture id="webp"><source type="image/webp" srcset="${images}/${name}?w=320&amp;fm=webp, ${images}/${name}?w=640&amp;fm=webp 2x">
  <img src="${images}/${name}.jpg_310x310.jpg" width="300"></picture>
<img id="suffix" width="310" src="${images}/${name}.jpg_310x310.jpg" srcset="${images}/${name}.jpg_310x310.jpg 1x, ${images}/${name}.jpg_620x620.jpg 2x">
<img id="wide" style="width:50vw" sizes="50vw" src="${images}/${name}?w=320" srcset="${images}/${name}?w=320 320w, ${images}/${name}?w=640 640w, ${images}/${name}?w=1080 1080w, ${images}/${name}?w=1920 1920w">
<img id="auto" width="200" crossorigin="anonymous" src="${images}/${name}?w=400&amp;fm=auto">
<img id="crop" width="180" src="${images}/${name}.jpg_360x360xz.jpg_.webp">
<img id="original" width="300" src="${images}/${name}.jpg">`;

interface Shown {
  readonly asked: string;
  readonly width: number;
  readonly height: number;
}

/** What the browser took for an element. */
const shown = (tab: Page, id: string): Promise<Shown> =>
  tab.locator(id === 'best' || id === 'webp' ? `#${id} img` : `#${id}`).evaluate(async (element) => {
    const image = element as unknown as {
      decode(): Promise<void>;
      currentSrc: string;
      naturalWidth: number;
      naturalHeight: number;
    };
    await image.decode();
    const url = new URL(image.currentSrc);
    return {
      asked: url.pathname.slice(8 + 18) + url.search,
      width: image.naturalWidth,
      height: image.naturalHeight,
    };
  });

async function pageServer(t: TestContext, html: string): Promise<string> {
  const port = await freePorts(1);
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    response.end(html);
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  t.defer(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${port}/`;
}

async function browserOf(t: TestContext): Promise<Browser> {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  t.defer(() => browser.close());
  return browser;
}

describe('a page of pictures in Chromium, behind nginx', (test) => {
  if (missing !== undefined) return test.skip(`Chromium ${missing}`);

  test('takes the format and size that suit it, upright, and may be read and measured by script', async (t) => {
    const scene = await Scene.start(t);
    const front = await Front.nginx(t, 'nginx.conf', { origins: scene.origins });
    const name = await scene.store(await sideways());
    const images = `${front.url}/images`;
    const browser = await browserOf(t);
    const address = await pageServer(t, page(images, name));
    const tab = await browser.newPage({ viewport: { width: 1000, height: 800 }, deviceScaleFactor: 2 });
    const types = new Map<string, string>();
    const problems: string[] = [];
    tab.on('response', (answer) => types.set(answer.url(), answer.headers()['content-type'] ?? ''));
    tab.on('console', (message) => {
      if (message.type() === 'error' && !message.text().includes('favicon')) problems.push(message.text());
    });
    await tab.goto(address, { waitUntil: 'networkidle' });

    const cases: readonly (readonly [id: string, asked: string, size: string, type: string])[] = [
      ['best', '?w=640&fm=avif', '640x400', 'image/avif'],
      ['webp', '?w=640&fm=webp', '640x400', 'image/webp'],
      ['suffix', '.jpg_620x620.jpg', '620x388', 'image/jpeg'],
      ['wide', '?w=1080', '1080x675', 'image/jpeg'],
      ['auto', '?w=400&fm=auto', '400x250', 'image/avif'],
      ['crop', '.jpg_360x360xz.jpg_.webp', '360x360', 'image/webp'],
      ['original', '.jpg', '1600x1000', 'image/jpeg'],
    ];
    for (const [id, asked, size, type] of cases) {
      const took = await shown(tab, id);
      assert.is(took.asked, asked, id);
      assert.is(types.get(`${images}/${name}${asked}`), type, id);
      // A density of 2x halves what a page calls the natural size; sizes in "w" scale it to the slot.
      const [width, height] = size.split('x').map(Number) as [number, number];
      const ratio = took.width / took.height;
      assert.ok(Math.abs(ratio - width / height) < 0.02, `${id}: ${took.width}x${took.height}`);
      const direct = await sharp((await scene.direct(`${name}${asked}`, { accept: '*/*,image/avif' })).body)
        .autoOrient()
        .toBuffer({ resolveWithObject: true });
      assert.is(`${direct.info.width}x${direct.info.height}`, size, id);
    }
    // Read by script of another origin: sky above, grass below, whatever the camera was held like.
    const [above, below, arrow] = await tab.locator('#auto').evaluate(colours);
    assert.ok(isNear(above!, [140, 200, 240]), `above: ${above}`);
    assert.ok(isNear(below!, [60, 150, 70]), `below: ${below}`);
    assert.ok(isNear(arrow!, [220, 40, 40]), `arrow: ${arrow}`);
    // And measured.
    const timing = await tab.evaluate((url) => {
      const [entry] = performance.getEntriesByName(url) as unknown as {
        responseStart: number;
        encodedBodySize: number;
      }[];
      return { start: entry?.responseStart ?? 0, bytes: entry?.encodedBodySize ?? 0 };
    }, `${images}/${name}?w=400&fm=auto`);
    assert.ok(timing.start > 0 && timing.bytes > 0, JSON.stringify(timing));
    const fetched = await tab.evaluate(
      async (url) => (await (await fetch(url)).blob()).size,
      `${images}/${name}.jpg`,
    );
    assert.ok(fetched > 10_000);
    assert.equal(problems, []);

    const picture = join(tempDir(t, 'tfs-browser-'), 'page.png');
    await tab.screenshot({ path: picture, fullPage: true });
    const keepIn = process.env['TFS_TEST_SCREENSHOT'];
    if (keepIn !== undefined)
      writeFileSync(keepIn, await sharp(picture).resize({ width: 1000 }).png().toBuffer());
    const { width, height } = await sharp(picture).metadata();
    assert.ok(width === 2000 && height > 1000);

    // Somebody else's browser, with other formats: the same page, no format of the first one's.
    const old = await front.get(`${name}?w=400&fm=auto`, { accept: 'image/webp,image/*,*/*;q=0.8' });
    assert.is(old.headers['content-type'], 'image/webp');
    const same = await front.get(`${name}?w=400&fm=auto`, { accept: 'image/avif,image/webp,*/*' });
    assert.is(same.headers['content-type'], 'image/avif');
    assert.is(cacheStatus(same), 'HIT', 'what the browser had asked for');
  });
}, 120_000);

/** In the page: near the top, near the bottom, and in the arrow. */
function colours(element: unknown): number[][] {
  const canvas = document.createElement('canvas');
  canvas.width = 160;
  canvas.height = 100;
  const context = canvas.getContext('2d');
  context.drawImage(element, 0, 0, 160, 100);
  // No function of its own in here: its name would be one of this file's, which the page does not know.
  return [
    [20, 5],
    [80, 95],
    [80, 28],
  ].map(([x, y]) => [...context.getImageData(x!, y!, 1, 1).data.slice(0, 3)]);
}

const isNear = (colour: readonly number[], wanted: readonly number[]): boolean =>
  colour.every((value, i) => Math.abs(value - wanted[i]!) < 30);
