// pjdfstest: POSIX behaviour of names, modes, owners and times, 238 test files in TAP.
// Run by main.ts through prove(1), several files at a time inside one mount.
// Follows: the README of pjdfstest (run as root, with the mount as working directory).

import { join } from 'node:path';
import { command, onMount } from './commands.js';
import { progress, type Score, type Setting, timed } from './score.js';

export async function runPjdfstest(setting: Setting): Promise<Score[]> {
  const { folder, jobs } = setting;
  progress('pjdfstest');
  const tests = join(folder, 'pjdfstest', 'tests');
  const { output, seconds } = await timed(() =>
    onMount(
      setting,
      'pjdfstest',
      () => {},
      (cwd) => command('prove', ['-r', `-j${jobs}`, tests], { cwd, limit: 1800 }),
    ),
  );
  const counted = /Files=(\d+), Tests=(\d+)/.exec(output);
  const files = Number(counted?.[1] ?? 0);
  // A file is also listed when a check that it expects to fail has passed.
  const failures = [
    ...output.matchAll(/^(\S+\.t)\s+\(Wstat: (\d+).*Failed: (\d+).*(?:\n {2}.*)*/gm),
  ]
    .filter(([, , status, failed]) => status !== '0' || failed !== '0')
    .map(([text]) => text.replace(tests, '').replace(/\s+/g, ' '));
  if (counted === null) failures.push(`no summary: ${output.slice(-300)}`);
  const base = { suite: 'pjdfstest', variant: `${counted?.[2] ?? 0} checks`, unit: 'files' };
  const total = Math.max(files, 1);
  return [{ ...base, passed: total - failures.length, total, seconds, failures }];
}
