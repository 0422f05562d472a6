// `varve wine layer rm`: layers go from the library.
// Run by main.ts; wine/library/remove.ts looks who has them.
// Manual: wine-library-commands.ts.

import { removeLayer } from '../wine/library/remove.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark } from './output.js';
import { withProgress } from './wine-library.js';

export async function run(given: Arguments): Promise<number> {
  const removed = [...new Set(given.operands)];
  for (const name of removed) {
    await withProgress(given, name, () => removeLayer(name, given.has('force'), process.env));
  }
  if (given.has('json')) print(given, { version: 1, removed }, () => '');
  else remark(given, `${removed.join(', ')}: removed`);
  return EXIT.ok;
}
