import { createHmac } from 'node:crypto';

export const SIGNATURE_HEADER = 'tfs-signature';

/**
 * `t=SECONDS,v1=HEX`, one `v1` for each key: HMAC-SHA256 over the decimal seconds since 1970, a dot, and the body as sent.
 * A receiver takes the message when one of them is right, compared in constant time, and its time is not long ago.
 */
export function signatureOf(body: Buffer, keys: readonly Buffer[], nowMs: number): string {
  const seconds = Math.floor(nowMs / 1000);
  const proofs = keys.map((key) => {
    const hmac = createHmac('sha256', key).update(`${seconds}.`).update(body);
    return `v1=${hmac.digest('hex')}`;
  });
  return [`t=${seconds}`, ...proofs].join(',');
}
