// `varve wine create`: a prefix that stands on a base and layers.
// Run by main.ts; wine/library/create.ts makes it, and library/base.ts the base `default` where there is none.
// Manual: wine-library-commands.ts.

import { createPrefix } from '../wine/library/create.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print, remark } from './output.js';
import { baseOrDefault } from './wine-base-default.js';
import { withProgress } from './wine-library.js';

export async function run(given: Arguments): Promise<number> {
  const [prefix = ''] = given.operands;
  const { env } = process;
  const base = await baseOrDefault(given, given.value('base'));
  const created = await withProgress(given, prefix, () =>
    createPrefix({
      prefix,
      base,
      layers: given.values('layer'),
      wine: given.value('wine'),
      isolate: given.has('isolate'),
      env,
    }),
  );
  const { folder, record } = created;
  if (given.has('json')) print(given, { folder, ...record }, () => '');
  else {
    const over = record.layers.length === 0 ? '' : ` and ${counted(record.layers.length, 'layer')}`;
    remark(
      given,
      `${folder}: stands on ${record.base}${over}; \`varve wine run ${prefix} PROGRAM\``,
    );
  }
  return EXIT.ok;
}
