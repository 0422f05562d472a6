// `varve store init`: an empty store.
// Run by main.ts; store/store.ts makes it.
// Manual: store-commands.ts.

import { initStore } from '../store/store.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark } from './output.js';
import { failing, storePath } from './store.js';

export async function run(given: Arguments): Promise<number> {
  const path = storePath(given, given.operands[0]);
  const made = await failing(path, () => initStore(path));
  if (given.has('json')) print(given, { store: path, made }, () => '');
  else remark(given, `${path}: ${made ? 'a new store' : 'is a store already'}`);
  return EXIT.ok;
}
