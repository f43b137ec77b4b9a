import { readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { configPath, homeFromEnv, loadConfig } from '../../common/config.ts';
import { TfsError } from '../../common/errors.ts';
import { formatHostPort } from '../../common/ids.ts';
import { readToken } from '../../common/secrets.ts';
import { GatewayApi } from './gateway-api.ts';

/** Options that every command takes. */
export interface GlobalOptions {
  readonly home?: string;
  readonly url?: string;
  readonly tokenFile?: string;
  readonly json?: boolean;
}

export const homeOf = (options: GlobalOptions): string =>
  options.home === undefined ? homeFromEnv(process.env) : resolve(options.home);

export interface ApiOptions {
  /** Requests at once. */
  readonly connections?: number;
  /** Whether the command writes, so that a missing token is told before anything is sent. */
  readonly writes: boolean;
}

/**
 * The gateway a command talks to: `--url` or TFS_URL for one anywhere, else the one of the cluster in `--home`. The
 * token comes from `--token-file`, TFS_TOKEN, or the home, in this order.
 *
 * @throws TfsError CONFIG with what to give, UNAUTHORIZED when a token is needed and there is none
 */
export async function openApi(
  options: GlobalOptions,
  { writes, connections = 4 }: ApiOptions,
): Promise<GatewayApi> {
  const home = homeOf(options);
  const url = options.url ?? process.env['TFS_URL'] ?? (await urlOfHome(home));
  const token = await findToken(options, home);
  if (writes && token === undefined)
    throw new TfsError(
      'UNAUTHORIZED',
      `writing needs the token, and there is none in ${home}: give --token-file FILE or TFS_TOKEN`,
    );
  return GatewayApi.open({ url, connections, ...(token === undefined ? {} : { token }) });
}

/** Where clients reach the gateway of a home. @throws TfsError CONFIG where there is no cluster */
export async function urlOfHome(home: string): Promise<string> {
  if (!(await isThere(configPath(home))))
    throw new TfsError(
      'CONFIG',
      `there is no cluster in ${home}: start one with "npm start", or give --home DIRECTORY (TFS_HOME) or the ` +
        '--url (TFS_URL) of a gateway',
    );
  const { gateway } = await loadConfig(home);
  const host = gateway.host === '0.0.0.0' || gateway.host === '::' ? '127.0.0.1' : gateway.host;
  return gateway.publicUrl ?? `http://${formatHostPort({ host, port: gateway.port })}`;
}

async function findToken(options: GlobalOptions, home: string): Promise<string | undefined> {
  if (options.tokenFile !== undefined) {
    try {
      return (await readFile(options.tokenFile, 'utf8')).trim();
    } catch (cause) {
      throw new TfsError('CONFIG', `cannot read the token: ${(cause as Error).message}`, { cause });
    }
  }
  const fromEnv = process.env['TFS_TOKEN'];
  if (fromEnv !== undefined && fromEnv !== '') return fromEnv.trim();
  return (await isThere(configPath(home))) ? (await readToken(home)).text : undefined;
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
