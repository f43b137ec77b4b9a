import type { ImagesConfig } from '../../../common/config-images.ts';
import { TfsError, toTfsError } from '../../../common/errors.ts';
import { renditionOf } from './options.ts';
import type { Rendition } from './rendition.ts';
import type { Presets } from './request.ts';

/** @throws TfsError CONFIG that names the preset and the option */
export function presetsOf(config: ImagesConfig['presets']): Presets {
  const presets = new Map<string, Rendition>();
  for (const [name, options] of Object.entries(config)) {
    const given = new Map(Object.entries(options).map(([option, value]) => [option, String(value)]));
    try {
      presets.set(name, renditionOf(given));
    } catch (cause) {
      throw new TfsError('CONFIG', `images.presets.${name}: ${toTfsError(cause).message}`, { cause });
    }
  }
  return presets;
}
