import type { HostPort } from '../ids.ts';

/** Byte streams between processes. */
export interface Net {
  /** Rejects with CONNECTION_LOST when refused, unreachable or not connected within `timeoutMs`. */
  connect(address: HostPort, timeoutMs: number): Promise<Stream>;
  /** Rejects with CONFLICT when the port is taken, naming it. Port 0 takes a free one. */
  listen(address: HostPort, onStream: (stream: Stream) => void): Promise<Listener>;
}

export interface Listener {
  readonly address: HostPort;
  /** Stops accepting; open streams live on. */
  close(): Promise<void>;
}

/**
 * One connection. Data arrives in order through `onData` in buffers that the receiver may keep slices of.
 * `onClose` is called exactly once, after the last data, with the error that ended the stream if there was one.
 */
export interface Stream {
  readonly remote: HostPort;
  onData: (data: Buffer) => void;
  onClose: (error: Error | undefined) => void;
  onDrain: () => void;
  /** Queues the buffers in order without copying them. @returns bytes queued and not yet taken by the system */
  write(buffers: readonly Buffer[]): number;
  pause(): void;
  resume(): void;
  /** Flushes what is queued, then closes. */
  end(): void;
  /** Closes now. */
  destroy(error?: Error): void;
}
