import * as assert from 'uvu/assert';
import { History, type Operation, type OperationKind, type Outcome, type ReplicaAnswer } from './history.ts';
import { type CheckOptions, checkHistory, checkReplicas } from './history-checker.ts';
import { describe } from './suite.ts';

const NAME = 'T1aaaaaaaaaaaaaaaa';
const SHA1 = 'a'.repeat(40);
const QUIET: CheckOptions = { faults: [] };

type Extra = Partial<Pick<Operation, 'sha1' | 'provisional' | 'name'>>;
/** What happened from `startMs` to `endMs`. */
function op(
  kind: OperationKind,
  startMs: number,
  endMs: number,
  outcome: Outcome = 'done',
  extra: Extra = {},
) {
  const sha1 = kind === 'put' || (kind === 'get' && outcome === 'done') ? { sha1: SHA1 } : {};
  return { kind, name: NAME, startMs, endMs, outcome, ...sha1, ...extra };
}

function historyOf(...operations: Operation[]): History {
  const history = new History();
  for (const operation of operations) history.add(operation);
  return history;
}

const kindsOf = (operations: Operation[], options = QUIET): string[] =>
  checkHistory(historyOf(...operations), options).map(({ kind }) => kind);

const PUT = op('put', 0, 10);

describe('the checker of a history: what is lost', (test) => {
  test('a stored name that is absent', () => {
    assert.equal(kindsOf([PUT, op('get', 11, 12, 'absent')]), ['lost']);
  });

  test('before the acknowledgement of its upload a name may be absent', () => {
    assert.equal(kindsOf([PUT, op('get', 5, 6, 'absent')]), []);
    assert.equal(kindsOf([PUT, op('get', 9, 20, 'absent')]), []);
  });

  test('an upload that timed out may be there or not', () => {
    const maybe = op('put', 0, 10, 'unknown');
    assert.equal(kindsOf([maybe, op('get', 20, 21, 'absent')]), []);
    assert.equal(kindsOf([maybe, op('get', 20, 21)]), []);
  });

  test('what a read has shown of an upload that timed out stays', () => {
    const seen = [op('put', 0, 10, 'unknown'), op('get', 4000, 4001)];
    assert.equal(kindsOf([...seen, op('get', 4002, 4003, 'absent')]), ['lost']);
    // Unless the two reads overlap: the upload may have taken effect between their answers.
    assert.equal(kindsOf([...seen, op('get', 4000, 4031, 'absent')]), []);
    // Or soon after the client gave up, or while something is broken: one replica has it, and another not yet.
    const soon = [op('put', 0, 10, 'unknown'), op('get', 20, 21)];
    assert.equal(kindsOf([...soon, op('get', 30, 31, 'absent')]), []);
    const options = { faults: [{ fromMs: 0, healedMs: 5000 }] };
    assert.equal(kindsOf([...seen, op('get', 4002, 4003, 'absent')], options), []);
  });

  test('once a delete has begun the name may be absent, also if the delete failed', () => {
    assert.equal(kindsOf([PUT, op('delete', 20, 40), op('get', 25, 26, 'absent')]), []);
    assert.equal(kindsOf([PUT, op('delete', 20, 40, 'unknown'), op('get', 5000, 5001, 'absent')]), []);
    assert.equal(kindsOf([PUT, op('get', 15, 16, 'absent'), op('delete', 20, 40)]), ['lost']);
  });

  test('an undeleted name that is absent', () => {
    const undeleted = [PUT, op('delete', 20, 30), op('undelete', 40, 50)];
    assert.equal(kindsOf([...undeleted, op('get', 51, 52, 'absent')]), ['lost']);
    assert.equal(kindsOf([...undeleted, op('get', 45, 52, 'absent')]), []);
  });

  test('a delete or undelete that says there is no such name', () => {
    assert.equal(kindsOf([PUT, op('delete', 20, 30, 'absent')]), ['lost']);
    assert.equal(kindsOf([PUT, op('delete', 20, 30), op('undelete', 40, 50, 'absent')]), ['lost']);
  });

  test('what was deleted longer ago than it may be undeleted may be purged', () => {
    const options = { faults: [], undeleteWindowMs: 1000 };
    const deleted = [PUT, op('delete', 20, 30)];
    assert.equal(kindsOf([...deleted, op('undelete', 1030, 1040, 'absent')], options), []);
    assert.equal(kindsOf([...deleted, op('undelete', 900, 910, 'absent')], options), ['lost'], 'too soon');
    const back = [...deleted, op('undelete', 500, 510)];
    assert.equal(kindsOf([...back, op('undelete', 3000, 3010, 'absent')], options), ['lost'], 'it lives');
    assert.equal(kindsOf([...deleted, op('get', 3000, 3010)], options), ['stale'], 'nobody brings it back');
    const purged: ReplicaAnswer = { name: NAME, server: 1, state: 'absent' };
    const kindsAt = (atMs: number, operations: Operation[]): string[] =>
      checkReplicas(historyOf(...operations), [purged], { ...options, atMs }).map(({ kind }) => kind);
    assert.equal(kindsAt(5000, deleted), []);
    assert.equal(kindsAt(500, deleted), ['lost']);
    assert.equal(kindsAt(5000, back), ['lost']);
  });

  test('"not now" loses nothing', () => {
    assert.equal(kindsOf([PUT, op('get', 20, 30, 'unknown'), op('delete', 20, 30, 'unknown')]), []);
  });
});

describe('the checker of a history: what is stale', (test) => {
  const DELETED = [PUT, op('delete', 1000, 1010)];

  test('a deleted name that answers with its bytes', () => {
    assert.equal(kindsOf([...DELETED, op('get', 2011, 2020)]), ['stale']);
  });

  test('until the acknowledgement of the delete either answer is right', () => {
    assert.equal(kindsOf([...DELETED, op('get', 1005, 1020), op('get', 1006, 1007, 'absent')]), []);
  });

  test('a gateway may answer from memory for a second', () => {
    assert.equal(kindsOf([...DELETED, op('get', 2009, 2020)]), []);
    assert.equal(kindsOf([...DELETED, op('get', 1020, 1030)], { ...QUIET, cacheMs: 0 }), ['stale']);
  });

  test('while a fault overlaps, for three seconds', () => {
    const options = { faults: [{ fromMs: 900, healedMs: 10_000 }] };
    assert.equal(kindsOf([...DELETED, op('get', 4009, 4010)], options), []);
    assert.equal(kindsOf([...DELETED, op('get', 4012, 4020)], options), ['stale']);
  });

  test('a marked answer, for as long as the fault and three seconds more, and no longer', () => {
    const options = { faults: [{ fromMs: 900, healedMs: 60_000 }] };
    const marked = (at: number) => op('get', at, at + 1, 'done', { provisional: true });
    assert.equal(kindsOf([...DELETED, marked(59_000), marked(62_999)], options), []);
    assert.equal(kindsOf([...DELETED, marked(63_001)], options), ['stale']);
    assert.equal(kindsOf([...DELETED, marked(5_000)]), ['stale']);
  });

  test('three seconds after the fault was mended nothing is excused any more but the gateway', () => {
    const options = { faults: [{ fromMs: 0, healedMs: 500 }] };
    const deleted = [PUT, op('delete', 3400, 3410)];
    assert.equal(kindsOf([...deleted, op('get', 3499, 5000)], options), []);
    assert.equal(kindsOf([...deleted, op('get', 4500, 4501)], options), ['stale']);
  });

  test('once an undelete has begun the bytes are back', () => {
    const options = { ...QUIET, cacheMs: 0 };
    assert.equal(kindsOf([...DELETED, op('undelete', 5000, 5100), op('get', 5001, 5002)], options), []);
    assert.equal(
      kindsOf([...DELETED, op('undelete', 5000, 5100, 'unknown'), op('get', 9001, 9002)], options),
      [],
    );
  });

  test('a delete that timed out may never happen', () => {
    assert.equal(kindsOf([PUT, op('delete', 1000, 1010, 'unknown'), op('get', 9000, 9001)]), []);
  });

  test('a delete that timed out and was seen to have happened is not undone', () => {
    const seen = [PUT, op('delete', 1000, 1010, 'unknown'), op('get', 5000, 5001, 'absent')];
    assert.equal(kindsOf([...seen, op('get', 9000, 9001)]), ['stale']);
    assert.equal(kindsOf([...seen, op('undelete', 6000, 6001), op('get', 9000, 9001)]), []);
  });

  test('a delete that timed out may happen after the undelete that followed it', () => {
    const both = [PUT, op('delete', 1000, 1010, 'unknown'), op('undelete', 2000, 2010)];
    assert.equal(kindsOf([...both, op('get', 9000, 9001, 'absent')]), []);
    assert.equal(kindsOf([...both, op('get', 9000, 9001)]), []);
  });
});

describe('the checker of a history: bytes and names', (test) => {
  const OTHER = { sha1: 'b'.repeat(40) };

  test('bytes that were never stored under the name', () => {
    assert.equal(kindsOf([PUT, op('get', 20, 30, 'done', OTHER)]), ['phantom']);
    assert.equal(kindsOf([op('get', 20, 30)]), ['phantom']);
    assert.equal(kindsOf([op('get', 0, 10), op('put', 20, 30)]), ['phantom']);
  });

  test('a fault excuses no wrong bytes', () => {
    const options = { faults: [{ fromMs: 0, healedMs: 100 }] };
    const marked = op('get', 20, 30, 'done', { ...OTHER, provisional: true });
    assert.equal(kindsOf([PUT, marked], options), ['phantom']);
  });

  test('one name for two uploads', () => {
    assert.equal(kindsOf([PUT, op('put', 20, 30)]), ['reused']);
  });

  test('every name is a register of its own', () => {
    const history = historyOf(PUT, op('delete', 20, 30), op('put', 0, 10, 'done', { name: 'T1b' }));
    history.add(op('get', 5000, 5001, 'absent', { name: 'T1b' }));
    history.add(op('get', 5000, 5001, 'absent'));
    assert.equal(
      checkHistory(history, QUIET).map(({ name, kind }) => `${name} ${kind}`),
      ['T1b lost'],
    );
  });
});

describe('the checker of a history: replicas at the end', (test) => {
  const at = (server: number, state: ReplicaAnswer['state'], sha1?: string): ReplicaAnswer => ({
    name: NAME,
    server,
    state,
    ...(sha1 === undefined ? {} : { sha1 }),
  });
  const ended = (operations: Operation[], answers: ReplicaAnswer[]): string[] =>
    checkReplicas(historyOf(...operations), answers, { ...QUIET, atMs: 100_000 }).map(({ kind }) => kind);
  const DELETED = [PUT, op('delete', 20, 30)];
  const UNSURE = [PUT, op('delete', 20, 30, 'unknown')];

  test('all alike, as the history says', () => {
    assert.equal(ended([PUT], [at(1, 'live', SHA1), at(2, 'live', SHA1)]), []);
    assert.equal(ended(DELETED, [at(1, 'deleted'), at(2, 'deleted')]), []);
  });

  test('a replica that lacks the name, does not answer, or answers with other bytes', () => {
    assert.equal(ended([PUT], [at(1, 'live', SHA1), at(2, 'absent')]), ['lost', 'diverged']);
    assert.equal(ended([PUT], [at(1, 'live', SHA1), at(2, 'silent')]), ['lost']);
    assert.equal(ended([PUT], [at(1, 'live', 'b'.repeat(40))]), ['phantom']);
    assert.equal(ended([PUT], []), ['lost']);
  });

  test('a replica on which a delete did not arrive, or an undelete', () => {
    assert.equal(ended(DELETED, [at(1, 'deleted'), at(2, 'live', SHA1)]), ['stale', 'diverged']);
    assert.equal(ended([PUT], [at(1, 'deleted')]), ['lost']);
  });

  test('a name that was never acknowledged may be absent everywhere', () => {
    assert.equal(ended([op('put', 0, 10, 'unknown')], [at(1, 'absent')]), []);
    assert.equal(ended([op('put', 0, 10, 'unknown')], []), []);
  });

  test('what timed out has happened on all of them or on none', () => {
    assert.equal(ended(UNSURE, [at(1, 'live', SHA1), at(2, 'live', SHA1)]), []);
    assert.equal(ended(UNSURE, [at(1, 'deleted'), at(2, 'deleted')]), []);
    assert.equal(ended(UNSURE, [at(1, 'deleted'), at(2, 'live', SHA1)]), ['diverged']);
  });

  test('no allowance for a gateway or a fault', () => {
    const history = historyOf(PUT, op('delete', 99_990, 99_999));
    const options = { faults: [{ fromMs: 0, healedMs: 100_000 }], atMs: 100_000 };
    assert.equal(
      checkReplicas(history, [at(1, 'live', SHA1)], options).map(({ kind }) => kind),
      ['stale'],
    );
  });
});

describe('the checker of a history: hidden names', (test) => {
  const HIDDEN = [PUT, op('hide', 20, 30)];

  test('a hidden name that is still answered, and one that is shown again and absent', () => {
    assert.equal(kindsOf([...HIDDEN, op('get', 2000, 2001, 'absent')]), []);
    assert.equal(kindsOf([...HIDDEN, op('get', 2000, 2001)]), ['stale']);
    const shown = [...HIDDEN, op('reveal', 40, 50)];
    assert.equal(kindsOf([...shown, op('get', 51, 52)]), []);
    assert.equal(kindsOf([...shown, op('get', 51, 52, 'absent')]), ['lost']);
  });

  test('hiding and deleting know nothing of each other', () => {
    const both = [...HIDDEN, op('delete', 40, 50)];
    assert.equal(kindsOf([...both, op('undelete', 60, 70), op('get', 3000, 3001)]), ['stale']);
    assert.equal(kindsOf([...both, op('reveal', 60, 70), op('get', 3000, 3001)]), ['stale']);
    assert.equal(
      kindsOf([...both, op('undelete', 60, 70), op('reveal', 80, 90), op('get', 91, 92, 'absent')]),
      ['lost'],
    );
    assert.equal(kindsOf([...HIDDEN, op('delete', 40, 50, 'absent')]), ['lost']);
  });

  test('a hide that timed out may have happened or not, until a read shows it', () => {
    const maybe = [PUT, op('hide', 20, 30, 'unknown')];
    assert.equal(kindsOf([...maybe, op('get', 5000, 5001), op('get', 6000, 6001, 'absent')]), []);
    assert.equal(kindsOf([...maybe, op('get', 5000, 5001, 'absent'), op('get', 9000, 9001)]), ['stale']);
  });

  test('at the end replicas are as the history says, all alike', () => {
    const at = (server: number, hidden: boolean): ReplicaAnswer => ({
      name: NAME,
      server,
      state: 'live',
      hidden,
      sha1: SHA1,
    });
    const ended = (operations: Operation[], ...answers: ReplicaAnswer[]): string[] =>
      checkReplicas(historyOf(...operations), answers, { faults: [], atMs: 100_000 }).map(({ kind }) => kind);
    assert.equal(ended(HIDDEN, at(1, true), at(2, true)), []);
    assert.equal(ended(HIDDEN, at(1, false)), ['stale']);
    assert.equal(ended([PUT], at(1, true)), ['lost']);
    const unsure = [PUT, op('hide', 20, 30, 'unknown')];
    assert.equal(ended(unsure, at(1, true), at(2, true)), []);
    assert.equal(ended(unsure, at(1, true), at(2, false)), ['diverged']);
  });
});

describe('a history', (test) => {
  test('counts reads that are plainly right and keeps all others', () => {
    const history = new History();
    history.add(PUT);
    history.add(op('get', 20, 21), false);
    history.add(op('get', 20, 21, 'unknown'), false);
    assert.is(history.of(NAME).length, 1);
    history.add(op('get', 20, 21, 'absent'), false);
    history.add(op('get', 20, 21, 'done', { sha1: 'b'.repeat(40) }), false);
    history.add(op('get', 5, 21), false);
    history.add(op('get', 20, 21), true);
    assert.is(history.of(NAME).length, 5);
    assert.is(history.operationCount, 7);
  });

  test('the longest history is checked in no time', () => {
    const history = new History();
    for (let i = 0; i < 50_000; i++) {
      const name = `T1${i}`;
      history.add(op('put', i, i + 5, 'done', { name }));
      history.add(op('get', i + 6, i + 7, 'done', { name }));
      history.add(op('delete', i + 10, i + 20, i % 3 === 0 ? 'unknown' : 'done', { name }));
      history.add(op('get', i + 10_000, i + 10_001, 'absent', { name }));
    }
    assert.equal(checkHistory(history, QUIET), []);
  });
});
