import { type Command, InvalidArgumentError } from 'commander';
import type { TfsClient } from '../../client/client.ts';
import type { PictureKey } from '../../client/reader.ts';
import { isTfsError, TfsError } from '../../common/errors.ts';
import type { ServerId } from '../../common/ids.ts';
import { NAME_LENGTH } from '../../common/name.ts';
import { confirm } from '../cli/confirm.ts';
import { withDirectClient } from '../cli/direct.ts';
import { ExitCode } from '../cli/exit-codes.ts';
import { type CommandIo, openIo, raiseExitCode } from '../cli/io.ts';
import { withOperatorPeers } from '../cli/operator.ts';
import { serverNumber } from '../cli/server-number.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { type Found, findEverywhere, placeKey } from '../erase/find.ts';
import { type EraseNote, readNote, writeNote } from '../erase/note.ts';
import { erasePorts, findPorts } from '../erase/ports.ts';
import { openStepProgress } from '../erase/progress.ts';
import { erase } from '../erase/run.ts';
import { listText, outcomeText, type ShownName, shownNames } from '../erase/texts.ts';
import { purgeNames } from '../purge/purge-names.ts';

interface EraseOptions extends GlobalOptions {
  readonly allNames?: boolean;
  readonly yes?: boolean;
  readonly sha1?: string;
  readonly destroyed?: readonly number[];
  readonly wait: number;
}

const WAIT_S_DEFAULT = 120;

export function register(program: Command): void {
  program
    .command('erase')
    .argument('<name>')
    .summary('makes the bytes of a picture go, for good, from every disk')
    .description(
      'Legal erase: lists every name of the same content on every DataServer, also deleted ones that may be undeleted. ' +
        'Where there are others than the one given it stops there and changes nothing. With --all-names, or where there ' +
        'is no other, all of them are deleted, their bytes are purged at once, and what else may hold them is removed: ' +
        'replaced files, the trash of every disk, records that were set aside. Not to be taken back.',
    )
    .option('--all-names', 'erase the other names of the same content too')
    .option('--yes', 'do not ask')
    .option(
      '--sha1 <hex>',
      'SHA-1 of the content, where its bytes are gone and this home has no note of it',
      sha1,
    )
    .option(
      '--destroyed <id>',
      'the disk of this DataServer does not exist any more, or was wiped: do not wait for it (repeatable)',
      (text: string, before: readonly number[] = []) => [...before, serverNumber(text)],
    )
    .option('--wait <seconds>', 'how long to try what cannot be done yet', seconds, WAIT_S_DEFAULT)
    .addHelpText('after', HELP)
    .action(async (name: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<EraseOptions>();
      await withDirectClient(homeOf(options), (client) => run(name, options, client));
    });
}

const HELP = `
It says that a picture is erased only when every disk of the cluster was asked. While one cannot be, it ends with exit code
5 and names it: run the same command again when the disk is back. It may be run at any time, and as often as you like.
Exit code 6: there are more names than you have agreed to erase; --all-names.`;

async function run(text: string, options: EraseOptions, client: TfsClient): Promise<void> {
  const io = openIo(options.json === true);
  const key = client.keyOf(text);
  const name = client.nameOf(key).slice(0, NAME_LENGTH);
  const home = homeOf(options);
  await withOperatorPeers(home, async (peers, config) => {
    const note = await readNote(home, name);
    const { content, isGone } = await contentOf(client, name, options, note);
    const progress = openStepProgress(process.stderr.isTTY === true && !io.json);
    const finding = findPorts(peers, config, progress);
    try {
      const found = await findEverywhere(finding, content);
      progress.stop();
      assertFound(isGone ? undefined : key, found, note);
      const shown = shownNames(found.places, (one) => client.nameOf(one));
      const agreed = await agree(io, { name, content, found, shown, options });
      if (!agreed) return;
      const records = recordsOf(found, note);
      // Before the first byte goes: afterwards nobody can tell what it was, or where.
      await writeNote(home, { name, sha1: content, records });
      const erasing = openStepProgress(process.stderr.isTTY === true && !io.json);
      const outcome = await erase(erasePorts(peers, config, client, erasing), {
        sha1: content,
        places: found.places,
        records,
        destroyed: new Set((options.destroyed ?? []) as readonly ServerId[]),
        waitMs: options.wait * 1000,
      }).finally(() => erasing.stop());
      if (outcome.done)
        await writeNote(home, { name, sha1: content, records, doneAt: new Date().toISOString() });
      const added = shownNames(
        outcome.added.map((one) => ({ block: one.block, slot: 0 as never, names: [one] })),
        (one) => client.nameOf(one),
      );
      // Also when it is not done: the names are deleted by now.
      const told = new Set([name, ...shown.flatMap((one) => one.name ?? [])]);
      const caches = await purgeNames(config, [...told], 'delete');
      io.result(
        { name, sha1: content, names: shown, records: records.length, ...outcome, added, caches },
        outcomeText(name, outcome, caches),
      );
      const isPurged = caches.every(({ failure }) => failure === undefined);
      if (outcome.added.length > 0) raiseExitCode(ExitCode.MORE_NAMES);
      else if (!outcome.done || !isPurged) raiseExitCode(ExitCode.TRY_LATER);
    } finally {
      progress.stop();
    }
  });
}

/**
 * Which content it is: by its record, as long as that can be read; then by what was noted when it was erased.
 *
 * @throws TfsError NOT_FOUND; GONE where the bytes are gone and nobody knows; CONFIG where what was given is not it
 */
async function contentOf(
  client: TfsClient,
  name: string,
  options: EraseOptions,
  note: EraseNote | undefined,
): Promise<{ readonly content: string; readonly isGone: boolean }> {
  let isGone = false;
  const known = await client.stat(name, { force: true }).then(
    (facts) => facts.sha1.toString('hex'),
    (error: unknown) => {
      isGone = isTfsError(error, 'GONE');
      if (isGone) return undefined;
      // While its servers are away the note will do.
      if (note !== undefined || options.sha1 !== undefined) return undefined;
      throw error;
    },
  );
  const content = known ?? note?.sha1 ?? options.sha1;
  if (content === undefined)
    throw new TfsError(
      'GONE',
      `the bytes of ${name} were taken out of its block before, and nobody here knows their SHA-1, to look whether there ` +
        'are more of them: give --sha1, or run it with the --home where the erasure was begun',
    );
  if (options.sha1 !== undefined && options.sha1 !== content)
    throw new TfsError('CONFIG', `${name} has, or had, the SHA-1 ${content}, not ${options.sha1}`);
  return { content, isGone };
}

/**
 * The one that was given must be among what is found, or among what was noted when it was; where its bytes are gone from
 * all disks that answer, and there is no note, the content that was said stands for it.
 */
function assertFound(key: PictureKey | undefined, { places }: Found, note: EraseNote | undefined): void {
  if (key === undefined || note?.records.some(({ block }) => block === key.block)) return;
  const isFound = places.some(
    ({ block, names }) => block === key.block && names.some(({ fileId }) => fileId === key.fileId),
  );
  if (!isFound)
    throw new TfsError(
      'UNAVAILABLE',
      'its own record was found on none of the servers that answer: try again when its servers are there',
    );
}

/** Shows what there is. @returns whether all of it may go */
async function agree(
  io: CommandIo,
  {
    name,
    content,
    found,
    shown,
    options,
  }: {
    readonly name: string;
    readonly content: string;
    readonly found: Found;
    readonly shown: readonly ShownName[];
    readonly options: EraseOptions;
  },
): Promise<boolean> {
  const others = shown.filter((one) => one.name !== name && one.state !== 'purged');
  const list = listText(content, shown, found);
  if (others.length > 0 && options.allNames !== true) {
    io.result(
      { name, sha1: content, names: shown, untold: found.untold, done: false },
      `${list}\nNothing was changed. To erase all of them: tfs erase ${name} --all-names`,
    );
    raiseExitCode(ExitCode.MORE_NAMES);
    return false;
  }
  if (!io.json) io.note(list);
  if (options.yes === true || (await confirm('All of these go for good.', name))) return true;
  io.note('nothing was changed');
  raiseExitCode(ExitCode.FAILED);
  return false;
}

/** What is found now, and what was agreed to before and is gone from the disks that answer. */
function recordsOf({ places }: Found, note: EraseNote | undefined): EraseNote['records'] {
  const records = new Map((note?.records ?? []).map((record) => [placeKey(record), record]));
  for (const { block, slot, names } of places)
    records.set(placeKey({ block, slot }), { block, slot, aliases: names.length - 1 });
  return [...records.values()];
}

function seconds(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new InvalidArgumentError('a number of seconds is needed');
  return value;
}

function sha1(text: string): string {
  const hex = text.toLowerCase();
  if (/^[0-9a-f]{40}$/.test(hex)) return hex;
  throw new InvalidArgumentError('40 hex digits are needed, as sha1sum prints them.');
}
