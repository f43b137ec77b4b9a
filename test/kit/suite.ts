import { type Callback, type Context, suite as uvuSuite } from 'uvu';

/** Undoes what a test opened; run in reverse order after the test, passed or failed. */
export type Cleanup = () => unknown;

export interface TestContext extends Context {
  /** Registers a cleanup for this test: a server to stop, a directory to remove, a process to end. */
  defer(cleanup: Cleanup): void;
}

export interface Suite {
  (name: string, body: (t: TestContext) => unknown): void;
  skip(name: string, body?: (t: TestContext) => unknown): void;
}

const CLEANUP_MS_MAX = 15_000;

/**
 * One uvu suite with what bare uvu lacks: a timeout for each test, cleanups that run whatever happened, an
 * error for a suite without tests, and no way to forget `.run()`.
 *
 * @param timeoutMs bound on each test
 */
export function describe(name: string, define: (test: Suite) => void, timeoutMs = 10_000): void {
  const inner = uvuSuite(name);
  let count = 0;
  const wrap =
    (title: string, body: (t: TestContext) => unknown): Callback<Context> =>
    async (context) => {
      const cleanups: Cleanup[] = [];
      const t = Object.assign(Object.create(context) as TestContext, {
        defer: (cleanup: Cleanup) => void cleanups.push(cleanup),
      });
      let failure: unknown;
      let failed = false;
      try {
        await bounded(
          Promise.resolve().then(() => body(t)),
          timeoutMs,
          `"${title}"`,
        );
      } catch (error) {
        failure = error;
        failed = true;
      }
      for (const cleanup of cleanups.reverse()) {
        try {
          await bounded(Promise.resolve().then(cleanup), CLEANUP_MS_MAX, `a cleanup of "${title}"`);
        } catch (error) {
          if (!failed) failure = error;
          failed = true;
        }
      }
      if (failed) throw printable(failure);
    };
  const test = ((title: string, body: (t: TestContext) => unknown) => {
    count++;
    inner(title, wrap(title, body));
  }) as Suite;
  test.skip = (title) => {
    process.stdout.write(`SKIPPED ${name}: ${title}\n`);
  };
  define(test);
  if (count === 0) process.stdout.write(`SKIPPED-SUITE ${name}\n`);
  inner.run();
}

/** uvu's report takes `details` for text, and ends without a word, and with exit code 0, over an error that is no such. */
function printable(failure: unknown): unknown {
  if (!(failure instanceof Error))
    return new Error(`something was thrown that is no error: ${String(failure)}`);
  if (!('details' in failure) || typeof failure.details === 'string') return failure;
  const shown = new Error(`${failure.message} ${JSON.stringify(failure.details)}`, { cause: failure });
  return Object.assign(shown, { stack: failure.stack ?? shown.stack });
}

async function bounded<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took longer than ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([work, expired]);
  } finally {
    clearTimeout(timer);
  }
}
