// `varve store du`: what each image takes alone, and what it shares with others.
// Run by main.ts; store/usage.ts counts.
// Manual: store-commands.ts.

import { bytesText } from '../report/words.js';
import { storeUsage } from '../store/usage.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print, table } from './output.js';
import { short, withStore } from './store.js';

export function run(given: Arguments): Promise<number> {
  return withStore(given, given.operands[0], (store) => {
    const usage = storeUsage(store);
    const show = (bytes: number): string => (given.has('bytes') ? String(bytes) : bytesText(bytes));
    print(given, { store: store.path, ...usage }, () => {
      const rows = usage.images.map((image) => [
        show(image.ownBytes),
        show(image.sharedBytes),
        show(image.bytes),
        show(image.imageBytes),
        short(image.digest),
        image.problem ?? (image.names.length === 0 ? '-' : image.names.join(', ')),
      ]);
      const head = ['OWN', 'SHARED', 'CONTENT', 'METADATA', 'IMAGE', 'NAMES'];
      const unused = `${counted(usage.unusedObjects, 'object')}, ${show(usage.unusedBytes)}`;
      return [
        ...(rows.length === 0 ? [] : [table([head, ...rows])]),
        `in all ${counted(usage.objects, 'object')}, ${show(usage.bytes)}; used by no image: ${unused}`,
      ].join('\n');
    });
    return EXIT.ok;
  });
}
