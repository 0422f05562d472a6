// `varve apply`: an upper is merged down into a directory, all of it or nothing of it.
// Run by main.ts; ops/apply/apply.ts does it; this file says what is going on.
// Manual: merge-commands.ts.

import { type ApplyReport, applyUpper, recoverApply } from '../ops/apply/apply.js';
import { stackToApply } from '../ops/apply/layers.js';
import { findStack, openLayers } from '../ops/open-stack.js';
import { readable } from '../report/readable.js';
import { MountError } from '../stack/errors.js';
import { show } from '../tree/tree.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { asMountError } from './image.js';
import { counted, print, remark } from './output.js';
import { StatusLine } from './status-line.js';
import { withUserXattr } from './user-xattr.js';

export async function run(given: Arguments): Promise<number> {
  const recover = given.value('recover');
  if (recover !== undefined) return recoverIn(given, recover);
  if (given.has('undo')) {
    throw new MountError('option', '--undo: goes with --recover DIR');
  }
  const into = given.value('into');
  if (into === undefined) {
    throw new MountError('option', 'apply: no directory named: write --into DIR');
  }
  if (given.has('keep') && given.has('move')) {
    throw new MountError(
      'option',
      '--keep: what --move moves cannot be kept: write one of the two',
    );
  }
  const [operand] = given.operands;
  const options = given.values('options');
  if ((operand === undefined) === (options.length === 0)) {
    throw new MountError('option', 'apply: name the upper in one way: UPPER, or -o OPTIONS');
  }
  const named = withUserXattr(
    given,
    await findStack(operand === undefined ? { options } : { layers: [operand, into] }),
  );
  const upper = operand === undefined ? named.layers.upperdir : named.layers.lowerdirs[0];
  if (upper === undefined) {
    throw new MountError('option', 'apply: the stack has no upper: name upperdir in -o');
  }
  const line = new StatusLine(given.has('quiet') || given.has('json'));
  const layers = openLayers(named);
  let report: ApplyReport;
  let keeps = given.has('keep');
  try {
    const { stack, between } = stackToApply(named, layers, into);
    if (between.length > 0) {
      keeps = true;
      const what = `${between.join(', ')}: still above ${into}`;
      remark(given, `${what}: mount that alone from now on; the upper is kept as well`);
    }
    report = await applyUpper(stack, into, {
      dryRun: given.has('dry-run'),
      force: given.has('force'),
      move: given.has('move') && !keeps,
      upper: keeps ? undefined : upper,
      workdir: named.layers.workdir,
      onProgress: (names) => line.show(`making ready: ${counted(names, 'name')}`),
      onStep: (done, of) => line.show(`${done}/${counted(of, 'step')}`),
    });
  } catch (error) {
    throw asMountError(error, into);
  } finally {
    line.end();
    layers.close();
  }
  tell(given, report, keeps);
  return report.conflicts.length > 0 && !report.applied ? EXIT.layer : EXIT.ok;
}

function recoverIn(given: Arguments, directory: string): number {
  if (given.operands.length > 0 || given.has('into') || given.has('options')) {
    throw new MountError('option', `--recover ${directory}: stands alone, or with --undo`);
  }
  const line = new StatusLine(given.has('quiet') || given.has('json'));
  let result: ReturnType<typeof recoverApply>;
  try {
    result = recoverApply(directory, {
      undo: given.has('undo'),
      onStep: (done, of) => line.show(`${done}/${counted(of, 'step')}`),
    });
  } finally {
    line.end();
  }
  if (given.has('json')) print(given, { target: directory, recovered: result }, () => '');
  else {
    const texts = {
      finished: 'finished: it shows what the stack showed',
      undone: 'undone: it is what it was before',
      none: 'nothing to recover: no apply to it was killed',
    };
    remark(given, `${directory}: ${texts[result]}`);
  }
  return EXIT.ok;
}

const MARKS = { add: '+', replace: '!', move: '>', remove: '-', change: '~' } as const;

function tell(given: Arguments, report: ApplyReport, keeps: boolean): void {
  const isDry = given.has('dry-run');
  const { target, applied, conflicts, steps, left } = report;
  if (given.has('json')) {
    const result = {
      target,
      applied,
      dryRun: isDry,
      upper: applied && !keeps ? 'emptied' : 'kept',
      conflicts: conflicts.map(({ path, ...rest }) => ({ ...pathJson(path), ...rest })),
      steps: steps.map(({ path, from, what }) => ({
        what,
        ...pathJson(path),
        ...(from === undefined ? {} : { from: pathJson(from).path }),
      })),
    };
    print(given, result, () => '');
    return;
  }
  if (isDry && !given.has('quiet')) {
    const lines = steps.map(({ what, path, from }) =>
      from === undefined
        ? `${MARKS[what]} ${text(path)}`
        : `${MARKS[what]} ${text(from)} -> ${text(path)}`,
    );
    print(given, undefined, () => lines.join('\n'));
  }
  for (const { path, message } of conflicts) {
    process.stderr.write(`varve: conflict: ${text(path)}: ${message}\n`);
  }
  const summary = `${target}: ${applied ? '' : 'would be '}${counts(report)}`;
  if (conflicts.length > 0 && !applied) {
    const rest = `${counted(conflicts.length, 'conflict')}: --force overruns them`;
    process.stderr.write(`varve: ${target}: nothing was changed, ${rest}\n`);
  } else if (applied || isDry) remark(given, summary);
  if (left !== undefined) {
    const why = 'immutable files, or something that is mounted: remove it yourself';
    process.stderr.write(`varve: ${left}: not all that was replaced could be removed: ${why}\n`);
  }
}

function counts({ steps }: ApplyReport): string {
  const words = {
    add: 'added',
    replace: 'replaced',
    move: 'moved',
    remove: 'removed',
    change: 'changed in metadata',
  };
  const parts = Object.entries(words).flatMap(([what, word]) => {
    const n = steps.filter((step) => step.what === what).length;
    return n === 0 ? [] : [`${n} ${word}`];
  });
  return parts.length === 0 ? 'nothing to do' : parts.join(', ');
}

function text(path: string): string {
  return path === '' ? '.' : show(path).slice(1, -1);
}

/** Paths that are not UTF-8 have their bytes, too. */
function pathJson(path: string): { path: string; pathBytes?: string } {
  const { text: shown, bytes } = readable(path);
  return bytes === undefined ? { path: shown } : { path: shown, pathBytes: bytes };
}
