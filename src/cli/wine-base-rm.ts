// `varve wine base rm`: bases, or versions of them, go from the library.
// Run by main.ts; wine/library/remove.ts looks who stands on them.
// Manual: wine-library-commands.ts.

import { removeBase } from '../wine/library/remove.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark } from './output.js';
import { withProgress } from './wine-library.js';

export async function run(given: Arguments): Promise<number> {
  const removed: string[] = [];
  for (const name of new Set(given.operands)) {
    const gone = await withProgress(given, name, () =>
      removeBase(name, given.has('force'), process.env),
    );
    removed.push(...gone);
  }
  if (given.has('json')) print(given, { version: 1, removed }, () => '');
  else remark(given, `${removed.join(', ')}: removed`);
  return EXIT.ok;
}
