// Given to a server of a test by `node --import`: counts the calls by which it changes the files of one block, and ends
// or holds the process at one of them. It wraps what common/adapters/node-disk.ts uses, so that the server needs no hook.
// What it is told and what it tells: test/kit/steps.ts.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { basename } from 'node:path';

const FILE = process.env.TFS_TEST_STEPS;
const HELD_MS_MAX = 20_000;
const OWN_DESCRIPTOR = /^\/proc\/self\/fd\/(\d+)$/;

/** By descriptor, as they were opened. */
const paths = new Map();
let plan;
let steps = 0;
/** Whether names of the files have changed since their directory was synced. */
let isNamed = false;
let release;

process.on('message', (message) => {
  if (message?.steps !== undefined) {
    plan = message.steps;
    steps = 0;
    isNamed = false;
  }
  if (message?.go === true) release?.();
});

const isOurs = (path) => basename(path ?? '').startsWith(`${plan.block}.`);

/** @returns what this call does to the files of the plan; undefined when it does nothing to them */
function stepOf(call, [subject, other]) {
  if (plan === undefined) return undefined;
  if (call === 'open')
    return (other & fs.constants.O_CREAT) !== 0 && isOurs(subject)
      ? `create ${basename(subject)}`
      : undefined;
  const path = typeof subject === 'number' ? paths.get(subject) : subject;
  if (call === 'fsync') {
    if (!isNamed || path === undefined) return undefined;
    isNamed = false;
    return `sync ${basename(path)}/`;
  }
  if (!isOurs(path)) return undefined;
  const changesNames = call === 'rename' || call === 'link' || call === 'unlink';
  isNamed ||= changesNames;
  return `${call} ${basename(path)}${changesNames && call !== 'unlink' ? ` to ${basename(other)}` : ''}`;
}

const note = (line) => fs.appendFileSync(FILE, `${line}\n`);

function end(when, step) {
  note(`kill ${when} ${steps} ${step}`);
  process.kill(process.pid, 'SIGKILL');
  // Nothing more may happen on the disk by this thread until the signal is there.
  for (;;);
}

for (const call of [
  'open',
  'write',
  'writev',
  'fdatasync',
  'fsync',
  'ftruncate',
  'rename',
  'link',
  'unlink',
]) {
  const real = fs[call];
  fs[call] = (...args) => {
    const done = args.at(-1);
    const step = stepOf(call, args);
    let now = done;
    if (call === 'open' && typeof done === 'function') {
      const path = paths.get(Number(OWN_DESCRIPTOR.exec(args[0])?.[1])) ?? args[0];
      now = (error, fd) => {
        if (error === null) paths.set(fd, String(path));
        done(error, fd);
      };
    }
    if (step === undefined || typeof done !== 'function') return real(...args.slice(0, -1), now);
    steps++;
    if (plan.at === 0) note(`step ${steps} ${step}`);
    const isIt =
      typeof plan.at === 'string'
        ? step.replaceAll(`${plan.block}.`, 'N.').includes(plan.at)
        : steps === plan.at;
    if (!isIt) return real(...args.slice(0, -1), now);
    const { when, action } = plan;
    // Once is enough.
    plan = undefined;
    if (action === 'kill' && when === 'before') end(when, step);
    if (action === 'kill') return real(...args.slice(0, -1), () => end(when, step));
    const timer = setTimeout(() => release?.(), HELD_MS_MAX);
    release = () => {
      clearTimeout(timer);
      release = undefined;
      real(...args.slice(0, -1), now);
    };
    note(`hold ${when} ${steps} ${step}`);
  };
}

const realClose = fs.close;
fs.close = (fd, ...rest) => {
  paths.delete(fd);
  return realClose(fd, ...rest);
};

syncBuiltinESMExports();
