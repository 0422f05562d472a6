// `varve rebase`: an upper that was made over one version of its layers is made to fit another.
// Run by main.ts; ops/rebase decides and writes.
// Manual: layer-commands.ts and docs/rebase.md.

import { optionText } from '../named/request.js';
import { type Resolved, resolveStack } from '../named/resolve.js';
import { writeDownLayers } from '../named/write-down.js';
import type { LayerPaths } from '../ops/rebase/folder.js';
import type { Decision } from '../ops/rebase/plan-state.js';
import { type RebaseReport, rebase, resumeRebase, undoRebase } from '../ops/rebase/rebase.js';
import type { Clash } from '../ops/rebase/three-way.js';
import { MountError } from '../stack/errors.js';
import { show } from '../tree/tree.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print, remark } from './output.js';
import { StatusLine } from './status-line.js';

const POLICIES = ['both', 'ours', 'theirs', 'fail'] as const;

export async function run(given: Arguments): Promise<number> {
  const named = await namedStack(given);
  const options = named === undefined ? given.values('options') : [optionsOf(named, given)];
  const discard = given.has('discard-old');
  if (given.has('undo') || given.has('resume')) {
    if (given.has('to') || given.has('from') || (given.has('undo') && given.has('resume'))) {
      throw new MountError(
        'option',
        '--undo and --resume stand alone: drop --from, --to and the other',
      );
    }
    return given.has('undo') ? runUndo(given, options, named) : runResume(given, options);
  }
  const to = given.value('to');
  if (to === undefined) {
    throw new MountError('option', '--to: missing: name the layers that the upper is to fit');
  }
  const conflict = POLICIES.find((policy) => policy === (given.value('conflict') ?? 'both'));
  if (conflict === undefined) {
    throw new MountError(
      'option',
      `--conflict ${given.value('conflict')}: one of ${POLICIES.join(', ')}`,
    );
  }
  const line = new StatusLine(given.has('quiet') || given.has('json'));
  let report: RebaseReport;
  try {
    report = await rebase({
      options,
      from: given.value('from'),
      to,
      conflict,
      lines: given.has('merge-text'),
      discard,
      dryRun: given.has('dry-run'),
      onProgress: (names) => line.show(`writing: ${counted(names, 'name')}`),
    });
  } finally {
    line.end();
  }
  const file = report.done ? await writeDown(named, report.to) : undefined;
  tell(given, report, file);
  const isOpen = conflict === 'both' || conflict === 'fail';
  return isOpen && conflictsOf(report).length > 0 ? EXIT.conflict : EXIT.ok;
}

/** A stack of varve.yaml. */
type Named = Extract<Resolved, { readonly kind: 'stack' }>;

/** The stack that the operand names; undefined: -o does. @throws MountError. */
async function namedStack(given: Arguments): Promise<Named | undefined> {
  const [name] = given.operands;
  if ((name === undefined) === (given.values('options').length === 0)) {
    const what = name === undefined ? 'no upper is named' : 'a stack is named twice';
    throw new MountError('option', `${what}: write -o upperdir=DIR,workdir=DIR, or a named stack`);
  }
  if (name === undefined) return undefined;
  const resolved = await resolveStack(name);
  if (resolved.kind === 'stack') return resolved;
  throw new MountError(
    'absent',
    `${name}: no stack of this name: \`varve stack ls\` lists them; a mount point will not do, for nothing may be mounted`,
  );
}

function optionsOf({ stack, file }: Named, given: Arguments): string {
  if (given.has('from')) {
    throw new MountError('option', `--from: ${stack.name} names its layers itself: drop it`);
  }
  return optionText(stack, file);
}

/** The stack has other layers now. @returns the file. */
async function writeDown(
  named: Named | undefined,
  layers: LayerPaths,
): Promise<string | undefined> {
  return writeDownLayers(
    named,
    layers,
    (path, stack) =>
      `${stack}: its upper is another one now, but ${path} does not name its layers yet`,
  );
}

function conflictsOf({ decisions }: RebaseReport): Decision[] {
  return decisions.filter(({ outcome }) => outcome === 'conflict');
}

function tell(given: Arguments, report: RebaseReport, file: string | undefined): void {
  const conflicts = conflictsOf(report);
  const counts = { kept: 0, dropped: 0, merged: 0, conflict: 0 };
  for (const { outcome } of report.decisions) counts[outcome]++;
  if (given.has('json')) {
    const decisions = report.decisions.map(forPrograms);
    print(given, { version: 1, ...report, file, summary: counts, decisions }, () => '');
    return;
  }
  for (const warning of report.warnings) remark(given, warning);
  if (given.has('quiet')) return;
  const all = given.has('verbose') || given.has('dry-run');
  const lines = (all ? report.decisions : conflicts).map(lineOfDecision);
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
  const what = `${counts.kept} kept, ${counts.merged} merged, ${counts.dropped} dropped`;
  if (conflicts.length > 0 && !report.done && !given.has('dry-run')) {
    remark(given, `${counted(conflicts.length, 'conflict')}: nothing was changed`);
  } else if (conflicts.length > 0 || given.has('verbose')) {
    const old = report.kept === undefined ? '' : `; the old upper is ${report.kept}`;
    remark(given, `${what}, ${counted(conflicts.length, 'conflict')}${old}`);
  }
}

function lineOfDecision({ path, outcome, clashes, theirs, from }: Decision): string {
  const name = path === '' ? '/' : text(path);
  if (outcome !== 'conflict') {
    return `${outcome}: ${name}${from === undefined ? '' : ` (${text(from)} below)`}`;
  }
  const what = (clashes ?? []).map(lineOfClash).join('; ');
  return `conflict: ${name}: ${what}${theirs === undefined ? '' : `; theirs is ${text(theirs)}`}`;
}

function lineOfClash({ aspect, name, ours, theirs }: Clash): string {
  if (aspect === 'existence') return `${ours} here, ${theirs} there`;
  return `${aspect}${name === undefined ? '' : ` ${text(name)}`}: ours ${short(ours)}, theirs ${short(theirs)}`;
}

function short(value: string): string {
  return value.length > 60 ? `${value.slice(0, 57)}...` : value;
}

/** A name's bytes as text; quoted where it is more than that. */
function text(path: string): string {
  const quoted = show(path);
  const plain = Buffer.from(path, 'latin1').toString();
  return quoted === `"${plain}"` ? plain : quoted;
}

function forPrograms({ path, theirs, from, ...rest }: Decision): object {
  const bytes = Buffer.from(path, 'latin1');
  const isText = Buffer.from(bytes.toString()).equals(bytes);
  return {
    path: isText ? bytes.toString() : show(path).slice(1, -1),
    ...(isText ? {} : { pathBytes: bytes.toString('base64') }),
    ...(from === undefined ? {} : { from: text(from) }),
    ...rest,
    ...(theirs === undefined ? {} : { theirs: text(theirs) }),
  };
}

async function runUndo(
  given: Arguments,
  options: readonly string[],
  named: Named | undefined,
): Promise<number> {
  const { upperdir, kept, layers } = await undoRebase(options, given.has('discard-old'));
  const file = await writeDown(named, layers);
  print(given, { version: 1, upperdir, kept, layers, file }, () => '');
  if (!given.has('json') && kept !== undefined) {
    remark(given, `${upperdir}: put back; what it was until now is ${kept}`);
  }
  return EXIT.ok;
}

async function runResume(given: Arguments, options: readonly string[]): Promise<number> {
  const done = await resumeRebase(options);
  print(given, { version: 1, done }, () => (given.has('quiet') ? '' : done.join('\n')));
  return EXIT.ok;
}
