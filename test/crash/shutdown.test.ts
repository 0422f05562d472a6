// The machine crashes while programs work on a mount: after the next one what was synced is there, renames are old or new.
// In CI a few moments on each filesystem; with --rounds N so many on each. Some of them without varve: they show what fsync(2) promises.

import { test } from 'node:test';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { alone } from './alone.js';
import { type Filesystem, Machine, type Point } from './crash.js';

const rounds = campaign('rounds', 5);
const first = campaign('seed', 1);

/** What the mounts of consecutive points differ in. */
const OPTIONS = process.env['OPT']
  ? [process.env['OPT'] === 'none' ? '' : process.env['OPT']]
  : ['', 'metacopy=on', '', 'metacopy=on', 'plain'];

/** Moments that are told of before the rest is given up. */
const MOST_FAILURES = 5;

const pointOf = (seed: number): Point => ({
  seed,
  flushesLog: Math.floor(seed / OPTIONS.length) % 2 === 1,
  options: OPTIONS[seed % OPTIONS.length] as string,
});

for (const type of ['ext4', 'xfs'] as const satisfies readonly Filesystem[]) {
  const skip = requires({
    root: true,
    features: ['fuse', 'overlayfs', 'loop', type],
    packages: ['sqlite3', type === 'xfs' ? 'xfsprogs' : 'e2fsprogs', 'xfsprogs'],
  });

  test(`what was synced survives a shutdown of ${type}, and the rest is old or new`, {
    skip,
  }, async (t) => {
    alone();
    const machine = new Machine(tempDir(t), type);
    let operations = 0;
    let transactions = 0;
    const failures: string[] = [];
    for (let seed = first; seed < first + rounds; seed++) {
      const point = pointOf(seed);
      try {
        const outcome = await machine.crash(point);
        operations += outcome.operations;
        transactions += outcome.transactions;
      } catch (error) {
        failures.push(`${JSON.stringify(point)}: ${(error as Error).message}`);
        if (failures.length >= MOST_FAILURES) break;
        await machine.reset();
      }
    }
    t.diagnostic(
      `${type}: ${rounds} crashes, ${operations} operations, ${transactions} transactions`,
    );
    if (failures.length > 0) throw new Error(failures.join('\n\n'));
  });
}
