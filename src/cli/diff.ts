// `varve diff`: what the upper of a stack has changed, in the form that was asked for.
// Run by main.ts; union/ finds the changes, report/ words them, diff-files.ts and diff-prune.ts do the rest.
// Manual: diff-commands.ts.

import { documentOf, entryOf, summaryOf } from '../report/document.js';
import { nameStatus } from '../report/name-status.js';
import { outline, summaryLine } from '../report/outline.js';
import { statText } from '../report/stat.js';
import { MountError } from '../stack/errors.js';
import { type Change, isNews } from '../union/change.js';
import type { Arguments } from './args.js';
import { coloursFor } from './colours.js';
import type { Compared } from './diff-compared.js';
import { openCompared } from './diff-operands.js';
import { EXIT } from './exit-codes.js';
import { print } from './output.js';

/** Forms for standard output: one of them at most. */
const FORMS = ['stat', 'name-status', 'json', 'patch'] as const;
type Form = (typeof FORMS)[number] | 'tree' | 'nothing';

export async function run(given: Arguments): Promise<number> {
  checkFlags(given);
  if (given.has('prune')) return (await import('./diff-prune.js')).pruneUpper(given);
  const compared = given.has('trees')
    ? (await import('./diff-trees.js')).compareTrees(given)
    : await openCompared(given);
  try {
    return await tell(given, compared);
  } finally {
    compared.close();
  }
}

/** In the form that was asked for. @returns the exit code. */
export async function tell(given: Arguments, compared: Compared): Promise<number> {
  const { changes } = compared;
  const shown = given.has('all') ? changes.filter(hasObject) : changes.filter(isNews);
  const html = given.value('html');
  const tar = given.value('tar');
  if (html !== undefined || tar !== undefined) {
    const files = await import('./diff-files.js');
    if (tar !== undefined) await files.writeTar(given, compared, tar);
    if (html !== undefined) await files.writePage(given, compared, html);
  }
  await show(formOf(given), given, shown, compared);
  const answers =
    given.has('exit-code') || (given.has('quiet') && html === undefined && tar === undefined);
  return answers && shown.length > 0 ? EXIT.failed : EXIT.ok;
}

async function show(
  form: Form,
  given: Arguments,
  shown: readonly Change[],
  { changes, names, stack }: Compared,
): Promise<void> {
  switch (form) {
    case 'nothing':
      return;
    case 'name-status':
      writeBytes(nameStatus(shown, { z: given.has('null') }));
      return;
    case 'stat':
      process.stdout.write(
        statText(shown, { colours: coloursFor(given, process.stdout), width: columns() }),
      );
      return;
    case 'json':
      print(given, { ...documentOf(shown, names), summary: summaryOf(changes) }, () => '');
      return;
    case 'patch': {
      const { patchOf } = await import('../report/patch.js');
      const { filesOf } = await import('../report/patch-files.js');
      const files = stack === undefined ? shown : filesOf(shown, stack);
      const binary = given.has('binary');
      for (const piece of patchOf(files, { binary })) writeBytes(piece);
      return;
    }
    default:
      process.stdout.write(
        outline(shown.map(entryOf), { colours: coloursFor(given, process.stdout) }),
      );
      process.stdout.write(`${summaryLine(summaryOf(changes))}\n`);
  }
}

/** A whiteout of nothing is in no tree. */
function hasObject({ before, after }: Change): boolean {
  return before !== undefined || after !== undefined;
}

function formOf(given: Arguments): Form {
  if (given.has('quiet')) return 'nothing';
  const form = FORMS.find((name) => given.has(name));
  if (form !== undefined) return form;
  return given.has('html') || given.has('tar') ? 'nothing' : 'tree';
}

/** @throws MountError for flags that contradict each other. */
export function checkFlags(given: Arguments): void {
  const forms = FORMS.filter((name) => given.has(name));
  const toOutput = ['html', 'tar'].filter((name) => given.value(name) === '-');
  const both = [...forms, ...toOutput];
  if (both.length > 1) {
    throw new MountError(
      'option',
      `--${both[0]} and --${both[1]} both go to standard output: choose one, or name a FILE`,
    );
  }
  const needs = (flag: string, other: string): void => {
    if (given.has(flag) && !given.has(other)) {
      throw new MountError('option', `--${flag}: goes with --${other} only`);
    }
  };
  needs('null', 'name-status');
  needs('binary', 'patch');
  needs('kernel', 'tar');
  needs('dry-run', 'prune');
  needs('keep-times', 'prune');
  const color = given.value('color') ?? 'auto';
  if (!['auto', 'always', 'never'].includes(color)) {
    throw new MountError('option', `--color=${color}: one of auto, always, never`);
  }
}

function columns(): number {
  return process.stdout.columns ?? 80;
}

/** @param latin1 bytes, one code unit a byte. */
function writeBytes(latin1: string): void {
  process.stdout.write(Buffer.from(latin1, 'latin1'));
}
