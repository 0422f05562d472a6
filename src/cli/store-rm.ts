// `varve store rm`: takes names of images away.
// Run by main.ts.
// Manual: store-commands.ts.

import { removeRef } from '../store/images.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, remark } from './output.js';
import { withStore } from './store.js';

export function run(given: Arguments): Promise<number> {
  return withStore(given, undefined, (store) => {
    store.requireWritable();
    removeRef(store, ...given.operands);
    const what = counted(new Set(given.operands).size, 'name');
    remark(given, `${what} removed: \`varve store gc\` frees what nothing else needs`);
    return EXIT.ok;
  });
}
