// `varve store show`: one image of a store, or the objects that it uses.
// Run by main.ts.
// Manual: store-commands.ts.

import { join } from 'node:path';
import { bytesText } from '../report/words.js';
import { withObject } from '../store/contents.js';
import { imageUses } from '../store/image-objects.js';
import { resolveImage } from '../store/images.js';
import { Objects, objectPath } from '../store/objects.js';
import { imageUsage } from '../store/usage.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { shown } from './image.js';
import { counted, print, table } from './output.js';
import { withStore } from './store.js';

export function run(given: Arguments): Promise<number> {
  return withStore(given, undefined, (store) => {
    const digest = resolveImage(store, given.operands[0] as string);
    const objects = new Objects(store.objects);
    try {
      if (given.has('objects')) {
        const uses: { object: string | undefined; size: number; file: string }[] = [];
        withObject(objects, digest, (source) =>
          imageUses(source, (use) => {
            uses.push({ object: use.object, size: use.size, file: shown(use.file) });
          }),
        );
        uses.sort((a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : 0));
        print(given, uses, () =>
          uses.map((use) => `${use.object ?? '-'} ${use.size} ${use.file}`).join('\n'),
        );
        return EXIT.ok;
      }
    } finally {
      objects.close();
    }
    const usage = imageUsage(store, digest);
    const { names, problem } = usage;
    const path = join(store.objects, objectPath(digest));
    const { sharedBytes: _shared, ownBytes: _own, ...figures } = usage;
    print(given, { ...figures, path }, () =>
      table([
        ['image', digest],
        ['names', names.length === 0 ? 'none: the next gc takes it away' : names.join(', ')],
        ['file', path],
        ...(problem === undefined
          ? [
              ['metadata', `${bytesText(usage.imageBytes)}, ${counted(usage.inodes, 'object')}`],
              [
                'files',
                `${counted(usage.files, 'file')}, ${bytesText(usage.fileBytes)} not in the image`,
              ],
              ['content', `${counted(usage.objects, 'object')}, ${bytesText(usage.bytes)}`],
            ]
          : [['problem', problem]]),
      ]),
    );
    return problem === undefined ? EXIT.ok : EXIT.layer;
  });
}
