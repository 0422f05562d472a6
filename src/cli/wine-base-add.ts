// `varve wine base add`: a pristine prefix that others stand on.
// Run by main.ts; wine/library/base.ts makes it.
// Manual: wine-library-commands.ts.

import { MountError } from '../stack/errors.js';
import { addBase } from '../wine/library/base.js';
import { findWine } from '../wine/prefix/build.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark } from './output.js';
import { withProgress } from './wine-library.js';

export async function run(given: Arguments): Promise<number> {
  const [name = ''] = given.operands;
  const from = given.value('from');
  if (from === '') throw new MountError('option', '--from: is empty: name a prefix or an image');
  if (from === undefined && given.has('link')) {
    throw new MountError('option', '--link: is for images: name one by --from');
  }
  if (from !== undefined && given.has('wine')) {
    throw new MountError('option', '--wine: nothing is run with --from: leave one of the two out');
  }
  const { env } = process;
  const wine = (): ReturnType<typeof findWine> => findWine(given.value('wine'), env);
  const link = given.has('link');
  const added = await withProgress(given, from ?? name, (onProgress) =>
    addBase({ name, from, link, wine, env, onProgress }),
  );
  if (given.has('json')) print(given, { version: 1, ...added }, () => '');
  else {
    const by = added.wine === undefined ? '' : ` (${added.wine})`;
    remark(given, `${added.reference}: ${added.path}${by}`);
  }
  return EXIT.ok;
}
