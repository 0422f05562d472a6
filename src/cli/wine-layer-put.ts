// `varve wine layer put`: a layer goes into a prefix.
// Run by main.ts; wine/library/put.ts changes what the prefix stands on.
// Manual: wine-library-commands.ts.

import { putLayer } from '../wine/library/put.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark } from './output.js';
import { remarkConflicts, withProgress } from './wine-library.js';

export async function run(given: Arguments): Promise<number> {
  const [layer = '', prefix = ''] = given.operands;
  const done = await withProgress(given, prefix, () =>
    putLayer(prefix, layer, given.value('below'), process.env),
  );
  if (given.has('json')) print(given, { version: 1, ...done }, () => '');
  else {
    const list = done.layers.length === 0 ? 'no layers' : `layers ${done.layers.join(', ')}`;
    remark(given, `${prefix}: ${list}`);
    remarkConflicts(given, done.conflicts);
  }
  return EXIT.ok;
}
