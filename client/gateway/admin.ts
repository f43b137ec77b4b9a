import { nodeClock } from '../../common/adapters/node-clock.ts';
import { AdminHttp, type AdminHttpOptions } from '../../common/admin-http.ts';
import { isTfsError } from '../../common/errors.ts';

const RETRY_MS = 1_000;

/**
 * Opens the admin side of a worker as soon as its port is free. While workers are replaced one by one, the old worker of
 * the same number still holds it; serving pictures does not wait for that.
 */
export function openAdminWhenFree(options: AdminHttpOptions): { close(): Promise<void> } {
  let closed = false;
  let admin: AdminHttp | undefined;
  const attempt = async (complain: boolean): Promise<void> => {
    try {
      admin = await AdminHttp.listen(options);
    } catch (err) {
      if (!isTfsError(err, 'CONFLICT')) throw err;
      if (complain) options.log.warn({ err }, 'the admin port is not free yet');
      nodeClock.after(RETRY_MS, () => {
        if (!closed) opening = attempt(false);
      });
    }
  };
  let opening = attempt(true);
  return {
    close: async () => {
      closed = true;
      await opening;
      await admin?.close();
    },
  };
}
