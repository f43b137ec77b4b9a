import type { Bench, BenchContext } from './bench.ts';
import { Child, nodeArgs, sibling } from './child.ts';
import { freePorts } from './ports.ts';
import type { LoadOrder } from './rpc-load.ts';
import { type Cell, ratio } from './table.ts';

const SIZES = [1024, 10_240];
const IN_FLIGHT = 64;

/** Framed calls between two processes, beside undici calling node:http with the same bodies. */
export const rpcBench: Bench = {
  name: 'rpc',
  title: 'framed calls per second at 1 and 10 KB, beside an HTTP client and server',
  async run(context) {
    const base = await freePorts(2);
    const args = [String(base), String(base + 1)];
    const server = await start(context, 'rpc-server', args);
    const load = await start(context, 'rpc-load', args);
    const rows: Cell[][] = [];
    for (const what of ['read', 'put'] as const)
      for (const size of SIZES) {
        const rates: number[] = [];
        for (const how of ['http', 'frames'] as const) {
          const order: LoadOrder = { how, what, size, inFlight: IN_FLIGHT, seconds: context.seconds };
          // Once to warm up, shorter.
          await measure(server, load, { ...order, seconds: Math.min(1, context.seconds) });
          const m = await measure(server, load, order);
          rates.push(m.rate);
          const beside = how === 'frames' ? ratio(m.rate, rates[0]) : undefined;
          rows.push([`${what} ${size / 1024} KB, ${how}`, m.rate, m.clientCpu, m.serverCpu, beside]);
        }
      }
    return [
      {
        title: `Calls between two processes, ${IN_FLIGHT} in flight on ${'one connection (http: 64 connections)'}`,
        columns: ['call', 'calls/s', 'client CPU us', 'server CPU us', 'to http'],
        rows,
        notes: ["CPU includes the kernel's work for the sockets; handlers do nothing."],
      },
    ];
  },
};

async function start(context: BenchContext, module: string, args: string[]): Promise<Child> {
  const { directory } = context;
  const child = await Child.start({
    name: module,
    command: process.execPath,
    args: [...nodeArgs(sibling(import.meta, module)), ...args],
    cwd: process.cwd(),
    directory,
  });
  context.defer(() => child.stop());
  return child;
}

async function measure(server: Child, load: Child, order: LoadOrder) {
  const startedAt = performance.now();
  const before = [load.cpuMicros(), server.cpuMicros()] as const;
  const done = load.message<{ calls: number }>();
  load.send(order);
  const { calls } = await done;
  const seconds = (performance.now() - startedAt) / 1000;
  return {
    rate: calls / seconds,
    clientCpu: (load.cpuMicros() - before[0]) / calls,
    serverCpu: (server.cpuMicros() - before[1]) / calls,
  };
}
