// `varve wine rm`: prefixes go with all that is in them, when the user wants it.
// Run by main.ts; wine/library/remove.ts removes.
// Manual: wine-library-commands.ts.

import { createInterface } from 'node:readline/promises';
import { MountError } from '../stack/errors.js';
import { requirePrefix } from '../wine/library/hold.js';
import { removePrefix } from '../wine/library/remove.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark } from './output.js';
import { withProgress } from './wine-library.js';

export async function run(given: Arguments): Promise<number> {
  const names = [...new Set(given.operands)];
  const folders = names.map((name) => requirePrefix(name, process.env));
  if (!given.has('yes') && !(await isWanted(folders))) {
    remark(given, 'nothing is removed');
    return EXIT.failed;
  }
  for (const name of names) {
    await withProgress(given, name, () => removePrefix(name, process.env));
  }
  if (given.has('json')) print(given, { version: 1, removed: folders }, () => '');
  else remark(given, `${names.join(', ')}: removed`);
  return EXIT.ok;
}

/** @throws MountError where nobody can be asked. */
async function isWanted(folders: readonly string[]): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new MountError('option', 'wine rm: nobody can be asked here: write --yes');
  }
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const said = await asking.question(
      `remove ${folders.join(', ')} with all that is in it? [y/N] `,
    );
    return /^y(es)?$/i.test(said.trim());
  } finally {
    asking.close();
  }
}
