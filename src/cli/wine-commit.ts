// `varve wine commit`: what a prefix has changed becomes a layer below it.
// Run by main.ts; wine/library/commit.ts does it.
// Manual: wine-library-commands.ts.

import { commitPrefix } from '../wine/library/commit.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print, remark } from './output.js';
import { withProgress } from './wine-library.js';

export async function run(given: Arguments): Promise<number> {
  const [prefix = '', layer = ''] = given.operands;
  const keepNoise = given.has('keep-noise');
  const done = await withProgress(given, prefix, () =>
    commitPrefix({ prefix, layer, keepNoise, env: process.env }),
  );
  if (given.has('json')) print(given, { version: 1, layer, ...done }, () => '');
  else {
    const kept = done.noise === 0 ? '' : `; ${counted(done.noise, 'key')} of its sessions stay`;
    remark(
      given,
      `${prefix}: ${counted(done.files, 'file')} and ${counted(done.keys, 'registry key')} are the layer ${layer} now${kept}`,
    );
  }
  return EXIT.ok;
}
