// `varve store gc`: removes what no named image, no mount and no stream needs.
// Run by main.ts; store/gc.ts decides.
// Manual: store-commands.ts.

import { bytesText } from '../report/words.js';
import { collectGarbage } from '../store/gc.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print } from './output.js';
import { short, withStore } from './store.js';

export function run(given: Arguments): Promise<number> {
  return withStore(given, given.operands[0], (store) => {
    const dryRun = given.has('dry-run');
    const report = collectGarbage(store, { dryRun });
    if (given.has('quiet') && !given.has('json')) return EXIT.ok;
    print(given, { store: store.path, dryRun, ...report }, () => {
      const would = dryRun ? 'would be ' : '';
      const lines = report.images.map((digest) => `image ${short(digest)}: ${would}removed`);
      for (const digest of report.inUse) {
        lines.push(`image ${short(digest)}: has no name and is in use: stays`);
      }
      const left = report.temporaries === 0 ? '' : `, ${counted(report.temporaries, 'left-over')}`;
      lines.push(
        `${counted(report.objects, 'object')}${left} ${would}removed, ${bytesText(report.bytes)}; ${counted(report.kept, 'object')} kept`,
      );
      return lines.join('\n');
    });
    return EXIT.ok;
  });
}
