// `varve store ls`: the images of a store, with their names.
// Run by main.ts.
// Manual: store-commands.ts.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { bytesText } from '../report/words.js';
import { listImages, listRefs } from '../store/images.js';
import { objectPath } from '../store/objects.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, table } from './output.js';
import { short, withStore } from './store.js';

export function run(given: Arguments): Promise<number> {
  return withStore(given, given.operands[0], (store) => {
    const refs = listRefs(store);
    const images = listImages(store).flatMap(({ digest }) => {
      if (digest === undefined) return [];
      const stat = statSync(join(store.objects, objectPath(digest)), { throwIfNoEntry: false });
      const names = refs.filter((ref) => ref.digest === digest).map(({ name }) => name);
      return [{ digest, names, imageBytes: stat?.size, added: stat?.mtime }];
    });
    const broken = refs
      .filter(({ digest }) => !images.some((image) => image.digest === digest))
      .map(({ name }) => name);
    print(given, { store: store.path, images, broken }, () => {
      const full = given.has('digests');
      const rows = images.flatMap(({ digest, names, imageBytes, added }) => {
        const shown = full ? digest : short(digest);
        const rest =
          imageBytes === undefined || added === undefined
            ? ['missing', '']
            : [bytesText(imageBytes), added.toISOString().slice(0, 16).replace('T', ' ')];
        return (names.length === 0 ? ['-'] : names).map((name) => [name, shown, ...rest]);
      });
      rows.push(...broken.map((name) => [name, 'leads nowhere', '', '']));
      rows.sort(([a = ''], [b = '']) => (a < b ? -1 : a > b ? 1 : 0));
      return rows.length === 0 ? '' : table([['NAME', 'IMAGE', 'METADATA', 'ADDED'], ...rows]);
    });
    return EXIT.ok;
  });
}
