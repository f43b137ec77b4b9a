import type { IncomingMessage, ServerResponse } from 'node:http';
import { type ApplicationParts, application } from '../application.ts';
import { errorPage } from './error-page.ts';
import { type TfsRoutesParts, tfsRoutes } from './routes.ts';

export interface TfsRestParts extends TfsRoutesParts, Omit<ApplicationParts, 'router' | 'reply'> {
  /** Which gateway this is, for error pages. */
  readonly server: string;
}

const PATH = /^\/(?:v\d+(?=[/?]|$)|tfs\.list(?:\?|$))/;
const LETTER_I = 0x69;

/**
 * The REST interface of TFS, as nginx-tfs speaks it, for clients that were written for that one: `docs/tfs-rest.md`. An
 * application of its own, because its errors are pages and those of the rest of the gateway JSON.
 */
export class TfsRest {
  readonly #answer: ReturnType<typeof application>;

  constructor(parts: TfsRestParts) {
    const { errors, clock, log, server } = parts;
    this.#answer = application({
      router: tfsRoutes(parts),
      errors,
      clock,
      log,
      reply: (error, requestId, closing) => errorPage(error, { requestId, closing, server }),
    });
  }

  /** @returns false when the request is for something else */
  handle(request: IncomingMessage, response: ServerResponse): boolean {
    const url = request.url!;
    // Most are for /images.
    if (url.charCodeAt(1) === LETTER_I || !PATH.test(url)) return false;
    void this.#answer(request, response);
    return true;
  }
}
