import { netContract } from '../contract/net.ts';
import { MemoryNet } from './memory-net.ts';

netContract('in memory', () => new MemoryNet());
netContract('in memory, in crumbs', () => new MemoryNet({ cut: crumbs }));

function crumbs(data: Buffer): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < data.length; at += 997) pieces.push(data.subarray(at, at + 997));
  return pieces;
}
