import { TfsError } from '../../../common/errors.ts';

/**
 * Parameters of one request, as nginx reads them: separated by `&`, and `+` is a plus. Those that nobody asks for are
 * passed over, as nginx-tfs does.
 */
export class Query {
  readonly #values: ReadonlyMap<string, string>;

  private constructor(values: ReadonlyMap<string, string>) {
    this.#values = values;
  }

  /**
   * @param search what follows the `?`
   * @throws TfsError BAD_REQUEST for a parameter that is given twice, or whose percent-encoding is malformed
   */
  static of(search: string): Query {
    const values = new Map<string, string>();
    for (const pair of search.split('&')) {
      if (pair === '') continue;
      const at = pair.indexOf('=');
      const name = plain(at < 0 ? pair : pair.slice(0, at));
      if (values.has(name)) throw bad(`the parameter ${quoted(name)} is given twice`);
      values.set(name, at < 0 ? '' : plain(pair.slice(at + 1)));
    }
    return new Query(values);
  }

  /** @returns empty when it is absent */
  text(name: string): string {
    return this.#values.get(name) ?? '';
  }

  /** @returns the first of `values` when it is absent @throws TfsError BAD_REQUEST when it is none of them */
  oneOf<T extends number>(name: string, values: readonly [T, ...T[]]): T {
    return this.optional(name, values) ?? values[0];
  }

  /** @returns undefined when it is absent @throws TfsError BAD_REQUEST when it is none of `values` */
  optional<T extends number>(name: string, values: readonly T[]): T | undefined {
    const text = this.#values.get(name);
    if (text === undefined) return undefined;
    const found = values.find((value) => String(value) === text);
    if (found === undefined) throw bad(`${name} must be ${values.join(' or ')}`);
    return found;
  }

  /** @returns undefined when it is absent @throws TfsError BAD_REQUEST when it is not a number from `min` on */
  count(name: string, min: number): number | undefined {
    const text = this.#values.get(name);
    if (text === undefined) return undefined;
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min)) throw bad(`${name} must be a number from ${min} on`);
    return value;
  }
}

function plain(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new TfsError('BAD_REQUEST', 'the percent-encoding of a parameter is malformed', { cause });
  }
}

const quoted = (text: string): string => JSON.stringify(text.slice(0, 40));

const bad = (message: string): TfsError => new TfsError('BAD_REQUEST', message);
