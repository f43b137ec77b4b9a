import { Agent, request } from 'undici';

/** A picture as its uploader is told of it. */
export interface UploadedFile {
  readonly name: string;
  readonly url: string;
  readonly size: number;
}

/** What a TFS client makes of an answer that is none of those it hopes for. */
export class TfsRequestError extends Error {
  override readonly name: 'TFSRequestError' | 'TFSServerError';
  readonly status: number;
  readonly data: string;

  constructor(status: number, data: string) {
    const title = /<title>([^<]+)<\/title>/i.exec(data)?.[1] ?? 'Internal Server Error';
    const server = /<td>server:<\/td>[^<]+<td>([^<]+)<\/td>/i.exec(data)?.[1] ?? 'unknown server';
    super(status === 500 ? `${title} (${server})` : `HTTP status ${status}`);
    this.name = status === 500 ? 'TFSServerError' : 'TFSRequestError';
    this.status = status;
    this.data = data;
  }
}

interface Command {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly body?: Buffer;
  /** Besides 200 and 201. */
  readonly alsoGood?: number;
}

const SERVER = /^\d+\.\d+\.\d+\.\d+/;

/**
 * Asks a gateway what an old client of nginx-tfs asks, in the way it does: finds its servers through `/tfs.list`, goes round
 * them, fetches its application's number before anything else, uploads with a suffix and a simple name.
 */
export class NginxTfsClient {
  servers: string[] = [];
  appid = '';
  /** Requests until the list is fetched again. */
  refreshCounter = 0;
  readonly #appkey: string;
  readonly #rootServer: string;
  readonly #agent = new Agent();
  #next = 0;

  /** @param rootServer `host:port` */
  constructor(rootServer: string, appkey: string) {
    this.#rootServer = rootServer;
    this.#appkey = appkey;
  }

  /** @throws TfsRequestError when there is no list, or the appkey is not known */
  async connect(): Promise<void> {
    await this.refreshServers();
    const info = JSON.parse(
      (await this.#do({ method: 'GET', path: `/v2/${this.#appkey}/appid` })).toString(),
    );
    if (typeof info.APP_ID !== 'string' || info.APP_ID === '') throw new Error('the appid is empty');
    this.appid = info.APP_ID;
  }

  async refreshServers(): Promise<void> {
    const { status, body } = await this.#send(this.#rootServer, { method: 'GET', path: '/tfs.list' });
    if (status !== 200) throw new TfsRequestError(status, body.toString());
    const lines = body.toString().trim().split('\n');
    const servers = lines.slice(1).filter((line) => SERVER.test(line));
    if (servers.length === 0) throw new Error(`no servers in ${JSON.stringify(lines)}`);
    this.refreshCounter = Number.parseInt(lines[0]!, 10) || 10;
    this.servers = servers;
    this.#next = 0;
  }

  async upload(content: Buffer, extension = ''): Promise<UploadedFile> {
    const suffix = extension === '' || extension.startsWith('.') ? extension : `.${extension}`;
    const query = suffix === '' ? '' : `?suffix=${suffix}&simple_name=1`;
    const data = await this.#do({ method: 'POST', path: `/v1/${this.#appkey}${query}`, body: content });
    const name = JSON.parse(data.toString()).TFS_FILE_NAME;
    return { name, size: content.length, url: `http://img1.example/tfscom/${name}` };
  }

  uploadPrivate(content: Buffer, extension = ''): Promise<UploadedFile> {
    return this.upload(content, extension === '' ? 'tfsprivate' : `tfsprivate.${extension}`);
  }

  /** Also succeeds when it is not there. */
  async remove(name: string, { hide }: { readonly hide?: 0 | 1 } = {}): Promise<Buffer> {
    const path = `/v1/${this.#appkey}/${name}${hide === undefined ? '' : `?hide=${hide}`}`;
    return this.#do({ method: 'DELETE', path, alsoGood: 404 });
  }

  async download(
    name: string,
    { offset, size = 0 }: { readonly offset?: number; readonly size?: number } = {},
  ): Promise<Buffer> {
    const part = offset === undefined ? '' : `?offset=${offset}${size > 0 ? `&size=${size}` : ''}`;
    return this.#do({ method: 'GET', path: `/v1/${this.#appkey}/${name}${part}` });
  }

  async getMeta(name: string, { type }: { readonly type?: 0 | 1 } = {}): Promise<Record<string, unknown>> {
    return JSON.parse((await this.getMetaText(name, type)).toString());
  }

  /** As it came: a number in it does not fit into a double. */
  async getMetaText(name: string, type?: 0 | 1): Promise<string> {
    const path = `/v1/${this.#appkey}/metadata/${name}${type === undefined ? '' : `?type=${type}`}`;
    return (await this.#do({ method: 'GET', path })).toString();
  }

  /** The first half of an upload under a name of one's own; an existing one is fine. */
  async createFile(uid: string | number, filename: string): Promise<void> {
    const path = `/v2/${this.#appkey}/${this.appid}/${uid}/file/${filename}?recursive=1`;
    await this.#do({ method: 'POST', path, body: Buffer.alloc(0), alsoGood: 409 });
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #do(command: Command): Promise<Buffer> {
    const server = this.servers[this.#next]!;
    this.#next = (this.#next + 1) % this.servers.length;
    const { status, body } = await this.#send(server, command);
    if (--this.refreshCounter <= 0) await this.refreshServers();
    if (status === 200 || status === 201 || status === command.alsoGood) return body;
    throw new TfsRequestError(status, body.toString());
  }

  async #send(server: string, { method, path, body }: Command): Promise<{ status: number; body: Buffer }> {
    const reply = await request(`http://${server}${path}`, {
      method,
      dispatcher: this.#agent,
      ...(method === 'DELETE' ? { headers: { 'content-length': '0' } } : {}),
      ...(body === undefined ? {} : { body }),
    });
    return { status: reply.statusCode, body: Buffer.from(await reply.body.arrayBuffer()) };
  }
}
