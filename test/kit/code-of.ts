import { type ErrorCode, isTfsError } from '../../common/errors.ts';

/** The code that work is refused with; undefined where it is done. What is no error of the store is thrown on. */
export async function codeOf(work: Promise<unknown>): Promise<ErrorCode | undefined> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error !== undefined && !isTfsError(error)) throw error;
  return isTfsError(error) ? error.code : undefined;
}
