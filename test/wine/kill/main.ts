// Commits a prefix to a layer and kills itself before a step: the victim of library-commit.test.ts.
// Arguments: PREFIX LAYER STEP; the library is that of VARVE_WINE_DIR. Says how many steps it took.
// A step beyond the last is none.

import { writeSync } from 'node:fs';
import { commitPrefix } from '../../../src/wine/library/commit.js';

const [prefix = '', layer = '', last] = process.argv.slice(2);
let steps = 0;
await commitPrefix({
  prefix,
  layer,
  keepNoise: false,
  env: process.env,
  onStep: () => {
    if (steps++ === Number(last)) process.kill(process.pid, 'SIGKILL');
  },
});
writeSync(1, `${steps}\n`);
