import { isIPv4 } from 'node:net';
import { z } from 'zod';
import { TFS_LIST_SERVERS_MAX } from './limits.ts';

/** What TFS clients of the REST interface may be sent to: they take nothing but `IPv4:port`. */
const zServer = z.string().refine((text) => {
  const [host = '', port = '', ...more] = text.split(':');
  return more.length === 0 && isIPv4(host) && /^[1-9]\d{0,4}$/.test(port) && Number(port) <= 65_535;
}, 'must be an IPv4 address and a port, such as "10.0.0.5:7500"');

/** Section `tfsRest`: the REST interface of TFS, which is there where `secrets/tokens.json` has an appkey. */
export const zTfsRest = z.strictObject({
  enabled: z.boolean().default(true),
  /** The gateways that `GET /tfs.list` names; the address that was asked when empty. */
  list: z.array(zServer).max(TFS_LIST_SERVERS_MAX).default([]),
  /** After so many requests a client asks for the list again. */
  requestsPerRefresh: z.number().int().min(1).max(1_000_000_000).default(1_000),
});
