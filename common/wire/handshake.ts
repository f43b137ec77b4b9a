import { assert, TfsError } from '../errors.ts';
import { KEY_BYTES, type Keyring, proofOf, ROLES, type Role, sameProof } from './keys.ts';

/**
 * Before any frame, both sides prove that they hold the key of the client's role, without sending it:
 *
 *   client  HELLO    magic u32 · version u16 · role u8 · id length u8 · nonce 32 · id
 *   server  ANSWER   magic u32 · version u16 · status u8 · id length u8 · nonce 32 · proof 32 · id
 *   client  PROOF    32
 *   server  VERDICT  status u8
 *
 * proof = HMAC-SHA256(role key, label ‖ everything sent before it), with a label for each side, so that neither can be
 * answered with its own words; the nonces make a recorded handshake worthless. What follows is as trustworthy as the
 * network between the two: frames carry no proof of their own.
 */
export const WIRE_VERSION = 1;
const MAGIC = 0x57534654; // 'TFSW'
const NONCE_BYTES = 32;
const HELLO_BYTES = 8 + NONCE_BYTES;
const ANSWER_BYTES = 8 + NONCE_BYTES + KEY_BYTES;
export const PEER_ID_CHARS_MAX = 64;
const PEER_ID = /^[\x21-\x7e]{1,64}$/;

const Status = { OK: 0, VERSION: 1, UNAUTHORIZED: 2, BUSY: 3 } as const;

/** One step of a handshake: what to send, and whether it is over. */
export interface Step {
  readonly send?: Buffer;
  /** Set when the peer has proved itself. `rest` is what arrived after the handshake. */
  readonly done?: { readonly role: Role; readonly id: string; readonly rest: Buffer };
  /** Set when it failed: send what is to be sent, then close. */
  readonly failed?: TfsError;
}

const WAIT: Step = {};
const NOTHING = Buffer.alloc(0);

export interface ServerHandshakeOptions {
  readonly keyring: Keyring;
  readonly id: string;
  readonly nonce: Buffer;
  /** Answer that this server has too many connections. */
  readonly busy?: boolean;
}

/** The server's side: bytes in, {@link Step} out. */
export class ServerHandshake {
  readonly #options: ServerHandshakeOptions;
  #pending: Buffer = NOTHING;
  #expected: { readonly proof: Buffer; readonly role: Role; readonly id: string } | undefined;

  constructor(options: ServerHandshakeOptions) {
    this.#options = options;
  }

  push(data: Buffer): Step {
    this.#pending = this.#pending.length === 0 ? data : Buffer.concat([this.#pending, data]);
    return this.#expected === undefined ? this.#hello() : this.#proof();
  }

  #hello(): Step {
    const b = this.#pending;
    if (!magicSoFar(b)) return { failed: new TfsError('PROTOCOL', 'the peer does not speak this protocol') };
    if (b.length < HELLO_BYTES) return WAIT;
    const version = b.readUInt16LE(4);
    if (version !== WIRE_VERSION)
      return {
        send: this.#answer(Status.VERSION, NOTHING),
        failed: new TfsError(
          'PROTOCOL',
          `the peer speaks version ${version} of the protocol, not ${WIRE_VERSION}`,
        ),
      };
    const length = HELLO_BYTES + b[7]!;
    if (b.length < length) return WAIT;
    const hello = b.subarray(0, length);
    const role = ROLES[b[6]! - 1];
    const id = hello.toString('latin1', HELLO_BYTES);
    if (role === undefined || !PEER_ID.test(id))
      return { failed: new TfsError('PROTOCOL', 'a malformed greeting') };
    if (this.#options.busy)
      return {
        send: this.#answer(Status.BUSY, NOTHING),
        failed: new TfsError('OVERLOADED', 'too many connections'),
      };
    const key = this.#options.keyring.roleKey(role);
    if (key === undefined)
      return {
        send: this.#answer(Status.UNAUTHORIZED, NOTHING),
        failed: new TfsError('UNAUTHORIZED', `this process does not hold the key of role ${role}`),
      };
    const answer = this.#answer(Status.OK, key, hello);
    this.#expected = { proof: proofOf(key, 'client', [hello, answer]), role, id };
    // Nothing may follow HELLO before our answer is read, but a byte that does is judged as proof all the same.
    this.#pending = b.subarray(length);
    return { send: answer };
  }

  #proof(): Step {
    const b = this.#pending;
    const expected = this.#expected!;
    if (b.length < KEY_BYTES) return WAIT;
    if (!sameProof(b.subarray(0, KEY_BYTES), expected.proof))
      return {
        send: Buffer.from([Status.UNAUTHORIZED]),
        failed: new TfsError(
          'UNAUTHORIZED',
          `"${expected.id}" does not hold the key of role ${expected.role}`,
        ),
      };
    const { role, id } = expected;
    return { send: Buffer.from([Status.OK]), done: { role, id, rest: b.subarray(KEY_BYTES) } };
  }

  #answer(status: number, key: Buffer, hello: Buffer = NOTHING): Buffer {
    const id = Buffer.from(this.#options.id, 'latin1');
    const out = Buffer.alloc(ANSWER_BYTES + id.length);
    out.writeUInt32LE(MAGIC, 0);
    out.writeUInt16LE(WIRE_VERSION, 4);
    out[6] = status;
    out[7] = id.length;
    this.#options.nonce.copy(out, 8, 0, NONCE_BYTES);
    id.copy(out, ANSWER_BYTES);
    if (status === Status.OK) proofOf(key, 'server', [hello, out]).copy(out, 8 + NONCE_BYTES);
    return out;
  }
}

export interface ClientHandshakeOptions {
  readonly key: Buffer;
  readonly role: Role;
  readonly id: string;
  readonly nonce: Buffer;
  /** Named in errors: host and port of the server. */
  readonly where: string;
}

/** The client's side. `done.role` is the client's own role; a server does not tell its own. */
export class ClientHandshake {
  readonly #options: ClientHandshakeOptions;
  readonly hello: Buffer;
  #pending: Buffer = NOTHING;
  #serverId: string | undefined;

  constructor(options: ClientHandshakeOptions) {
    this.#options = options;
    this.hello = encodeHello(options);
  }

  push(data: Buffer): Step {
    this.#pending = this.#pending.length === 0 ? data : Buffer.concat([this.#pending, data]);
    return this.#serverId === undefined ? this.#answer() : this.#verdict();
  }

  /** What the server calls itself; only after `done`. */
  get serverId(): string {
    assert(this.#serverId !== undefined, 'the server has answered');
    return this.#serverId;
  }

  #answer(): Step {
    const b = this.#pending;
    const { where, key, role } = this.#options;
    if (!magicSoFar(b)) return { failed: new TfsError('PROTOCOL', `${where} does not speak this protocol`) };
    if (b.length < 8) return WAIT;
    const version = b.readUInt16LE(4);
    if (version !== WIRE_VERSION || b[6] === Status.VERSION)
      return {
        failed: new TfsError(
          'PROTOCOL',
          `${where} speaks version ${version} of the protocol, this process ${WIRE_VERSION}: run one release everywhere`,
        ),
      };
    const length = ANSWER_BYTES + b[7]!;
    if (b.length < length) return WAIT;
    if (b[6] !== Status.OK) return { failed: refusal(b[6]!, where, role) };
    const answer = Buffer.from(b.subarray(0, length));
    const id = answer.toString('latin1', ANSWER_BYTES);
    const theirs = Buffer.from(answer.subarray(8 + NONCE_BYTES, ANSWER_BYTES));
    answer.fill(0, 8 + NONCE_BYTES, ANSWER_BYTES);
    if (!sameProof(theirs, proofOf(key, 'server', [this.hello, answer])) || !PEER_ID.test(id))
      return { failed: refusal(Status.UNAUTHORIZED, where, role) };
    theirs.copy(answer, 8 + NONCE_BYTES);
    this.#serverId = id;
    this.#pending = b.subarray(length);
    return { send: proofOf(key, 'client', [this.hello, answer]) };
  }

  #verdict(): Step {
    const b = this.#pending;
    const { where, role } = this.#options;
    if (b.length < 1) return WAIT;
    if (b[0] !== Status.OK) return { failed: refusal(b[0]!, where, role) };
    return { done: { role, id: this.#serverId!, rest: b.subarray(1) } };
  }
}

function encodeHello(options: ClientHandshakeOptions): Buffer {
  const id = Buffer.from(options.id, 'latin1');
  if (!PEER_ID.test(options.id))
    throw new TfsError(
      'CONFIG',
      `"${options.id}" cannot be an id: 1 to ${PEER_ID_CHARS_MAX} printable characters`,
    );
  const out = Buffer.alloc(HELLO_BYTES + id.length);
  out.writeUInt32LE(MAGIC, 0);
  out.writeUInt16LE(WIRE_VERSION, 4);
  out[6] = ROLES.indexOf(options.role) + 1;
  out[7] = id.length;
  options.nonce.copy(out, 8, 0, NONCE_BYTES);
  id.copy(out, HELLO_BYTES);
  return out;
}

function refusal(status: number, where: string, role: Role): TfsError {
  if (status === Status.BUSY) return new TfsError('OVERLOADED', `${where} has too many connections`);
  return new TfsError(
    'UNAUTHORIZED',
    `${where} and this process do not hold the same key of role ${role}: is it another cluster, or an old key?`,
  );
}

/** Whether what arrived can be the start of a handshake; tells a stray HTTP request from its first bytes. */
function magicSoFar(b: Buffer): boolean {
  for (let i = 0; i < Math.min(4, b.length); i++) if (b[i] !== ((MAGIC >>> (8 * i)) & 0xff)) return false;
  return true;
}
