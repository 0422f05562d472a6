// `varve store check`: everything in a store that can be verified, each fault as one line.
// Run by main.ts; store/check.ts looks.
// Manual: store-commands.ts.

import { bytesText } from '../report/words.js';
import { checkStore } from '../store/check.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print } from './output.js';
import { StatusLine } from './status-line.js';
import { threadsOf, withStore } from './store.js';

/** Faults printed in full. */
const MOST = 1000;

export function run(given: Arguments): Promise<number> {
  return withStore(given, given.operands[0], async (store) => {
    const line = new StatusLine(given.has('quiet'));
    const { faults, ...figures } = await checkStore(store, {
      threads: threadsOf(given),
      quick: given.has('links'),
      onProgress: (done, of) => line.show(`${Math.floor((100 * done) / of)} %  ${done}/${of}`),
    }).finally(() => line.end());
    const ok = faults.length === 0;
    const code = ok ? EXIT.ok : EXIT.layer;
    if (given.has('json')) {
      print(given, { store: store.path, ok, found: faults.length, ...figures, faults }, () => '');
      return code;
    }
    if (given.has('quiet')) return code;
    const lines = faults
      .slice(0, MOST)
      .map(({ kind, where, what }) => `${kind}: ${where}: ${what}`);
    if (faults.length > MOST) lines.push(`and ${counted(faults.length - MOST, 'more fault')}`);
    const looked = `${counted(figures.objects, 'object')}, ${bytesText(figures.bytes)}, ${counted(figures.images, 'image')}, ${counted(figures.names, 'name')}`;
    lines.push(`${store.path}: ${ok ? 'whole' : counted(faults.length, 'fault')}: ${looked}`);
    print(given, undefined, () => lines.join('\n'));
    return code;
  });
}
