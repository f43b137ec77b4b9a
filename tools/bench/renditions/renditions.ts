import { availableParallelism } from 'node:os';
import type { Bench } from '../bench.ts';
import { crowd } from './crowd.ts';
import { RenditionGateway, WORKERS } from './gateway.ts';
import { hits } from './hits.ts';
import { misses } from './misses.ts';
import { Numbers } from './numbers.ts';
import { benchOriginals } from './originals.ts';
import { saturated } from './saturated.ts';

/** Renditions made, kept, beside originals, and wanted by everybody at once, through a gateway of two workers. */
export const renditionsBench: Bench = {
  name: 'renditions',
  title: 'renditions on miss beside bare sharp, on hit beside originals, and 5,000 clients at once',
  async run(context) {
    context.say('making originals');
    const originals = await benchOriginals();
    const gateway = await RenditionGateway.start(context, originals);
    const numbers = new Numbers(originals.length);
    // As many as the gateway has, all workers together.
    const decoders = Math.ceil(availableParallelism() / WORKERS) * WORKERS;
    context.say('on miss');
    const onMiss = await misses(context, gateway, originals, { decoders, numbers });
    context.say('on hit');
    const onHit = await hits(context, gateway);
    context.say('beside originals');
    const beside = await saturated(context, gateway, numbers);
    context.say('all at once');
    const atOnce = await crowd(context, gateway);
    await gateway.cluster.destroy();
    return [onMiss, onHit, beside, atOnce];
  },
};
