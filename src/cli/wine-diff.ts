// `varve wine diff`: what a prefix, a layer or a program has changed in files and in the registry.
// Run by main.ts; wine/diff compares, wine-diff-tell.ts prints, wine-diff-trial.ts runs a program first.
// Manual: wine-diff-commands.ts.

import { MountError } from '../stack/errors.js';
import { compareTwo, compareWithBelow } from '../wine/diff/compare.js';
import { findSubject } from '../wine/diff/subject.js';
import type { Arguments } from './args.js';
import { splitOperands } from './diff-compared.js';
import { EXIT } from './exit-codes.js';
import { remark } from './output.js';
import { FORMS, tell, wantedOf } from './wine-diff-tell.js';

export async function run(given: Arguments): Promise<number> {
  checkFlags(given);
  const [subjects, program] = splitOperands(given);
  if (given.before !== undefined) {
    return (await import('./wine-diff-trial.js')).runTrial(given, subjects, program);
  }
  const [first, second] = subjects;
  if (first === undefined || subjects.length > 2) {
    throw new MountError('option', 'too many operands: write one WHAT, or two: WHAT OTHER');
  }
  for (const flag of ['keep', 'wine']) {
    if (given.has(flag)) throw new MountError('option', `--${flag}: goes with -- PROGRAM only`);
  }
  const one = await findSubject(first);
  const other = second === undefined ? undefined : await findSubject(second);
  const wanted = wantedOf(given);
  for (const { label, isUp, isComplete } of other === undefined ? [one] : [one, other]) {
    if (isUp && wanted.registry) {
      remark(given, `${label}: is in use: its registry is as wineserver last saved it`);
    }
    if (!isComplete && other === undefined) {
      remark(given, `${label}: what it was recorded on is not here: compared with nothing`);
    }
  }
  const compared =
    other === undefined ? compareWithBelow(one, wanted) : compareTwo(one, other, wanted);
  try {
    const changed = await tell(given, compared, process.stdout);
    const writes = given.has('html') || given.has('reg');
    const answers = given.has('exit-code') || (given.has('quiet') && !writes);
    return answers && changed ? EXIT.failed : EXIT.ok;
  } finally {
    compared.close();
  }
}

function checkFlags(given: Arguments): void {
  const forms = FORMS.filter((name) => given.has(name));
  const toOutput = ['html', 'reg'].filter((name) => given.value(name) === '-');
  const both = [...forms, ...toOutput];
  if (both.length > 1) {
    throw new MountError(
      'option',
      `--${both[0]} and --${both[1]} both go to standard output: choose one, or name a FILE`,
    );
  }
  const excludes = (flag: string, other: string, why: string): void => {
    if (given.has(flag) && given.has(other)) {
      throw new MountError('option', `--${flag}: ${why}: leave --${other} out`);
    }
  };
  excludes('patch', 'registry', 'tells files only');
  excludes('reg', 'files', 'tells the registry only');
  if (given.has('null') && !given.has('name-status')) {
    throw new MountError('option', '--null: goes with --name-status only');
  }
  const color = given.value('color') ?? 'auto';
  if (!['auto', 'always', 'never'].includes(color)) {
    throw new MountError('option', `--color=${color}: one of auto, always, never`);
  }
}
