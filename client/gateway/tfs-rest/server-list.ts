import type { IncomingMessage } from 'node:http';
import { isIPv4 } from 'node:net';

/**
 * Body of `GET /tfs.list`: after how many requests a client asks again, then the gateways, each on a line of its own.
 *
 * @param servers `IPv4:port` each; when empty, the address at which the request came in
 * @returns undefined when that is no IPv4 address, which is all that TFS clients take
 */
export function serverList(
  request: IncomingMessage,
  {
    servers,
    requestsPerRefresh,
  }: { readonly servers: readonly string[]; readonly requestsPerRefresh: number },
): string | undefined {
  const here = servers.length > 0 ? undefined : askedAddress(request);
  if (servers.length === 0 && here === undefined) return undefined;
  return `${[requestsPerRefresh, ...(here === undefined ? servers : [here])].join('\n')}\n`;
}

const HOST = /^([0-9.]{7,15}):([1-9]\d{0,4})$/;
const MAPPED = /^::ffff:/i;

/** As the client knows it, where it says so; else as this machine does. */
function askedAddress({ headers, socket }: IncomingMessage): string | undefined {
  const [, host = '', port] = HOST.exec(headers.host ?? '') ?? [];
  if (isIPv4(host) && Number(port) <= 65_535) return `${host}:${port}`;
  const local = (socket.localAddress ?? '').replace(MAPPED, '');
  return isIPv4(local) ? `${local}:${socket.localPort}` : undefined;
}
