// Applies an upper to a directory, or recovers one, and kills itself at a step: the victim of apply-kill.test.ts.
// Arguments: `apply UPPER LOWER STEP` or `recover LOWER STEP [undo]`. Says `ready` when it begins, then how many steps it took.
// A step beyond the last is none: then whoever started it may kill it at any time.

import { writeSync } from 'node:fs';
import { applyUpper, recoverApply } from '../../../src/ops/apply/apply.js';
import { stackOf } from '../../../src/union/changes.js';
import { viewDirectory } from '../../../src/union/directory-view.js';

const [what, ...rest] = process.argv.slice(2);
let steps = 0;

/** At once, in the middle of a call. */
function killer(last: number): () => void {
  return () => {
    if (steps++ === last) process.kill(process.pid, 'SIGKILL');
  };
}

writeSync(1, 'ready\n');
if (what === 'apply') {
  const [upper, lower, step] = rest as [string, string, string];
  const stack = stackOf([
    viewDirectory(upper, 'trusted.overlay.'),
    viewDirectory(lower, 'trusted.overlay.'),
  ]);
  const move = Number(step) % 2 === 0;
  await applyUpper(stack, lower, { upper, move, force: true, onStep: killer(Number(step)) });
} else {
  const [lower, step, undo] = rest as [string, string, string | undefined];
  recoverApply(lower, { undo: undo === 'undo', onStep: killer(Number(step)) });
}
writeSync(1, `${steps}\n`);
